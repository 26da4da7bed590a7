# SPDX-License-Identifier: Apache-2.0
"""Measures lists of executions: python -m tests.benchmarks.bench_lists CONNECTION [--rows N].

Times are of the query of a page, in the database and its driver, without building the query.
CONNECTION is the URL of an empty database that may be filled (for MariaDB with ?local_infile=1),
or of one that this program filled before (--rows 0). It prints what pages of 100 cost (p50,
and the fastest, which says more on a busy machine), and what an execution's row costs. It asserts
nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import datetime

import sqlalchemy as sa

from qinling_exec.context import RequestContext
from qinling_exec.db import models, scope
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.db.listing import Filter, Page
from qinling_exec.executions import lists, states
from tests import databases
from tests.benchmarks import rows_of_executions as rows

_ID = "80000000-0000-4000-8000-000000000000"


def cases(middle: datetime) -> dict[str, tuple[bool, list[Filter]]]:
    """Return lists by name: whether it is of all projects, and its filters."""
    status, function = Filter("status", "eq", "success"), Filter("function_id", "eq", rows.HOT)
    rare, since = Filter("status", "eq", "error"), Filter("created_at", "gte", middle)
    until = Filter("created_at", "lt", middle)
    not_well = Filter("status", "in", ["failed", "error"])
    none = Filter("function_id", "eq", rows.NONE)
    alien = Filter("function_id", "eq", rows.RARE)
    return {
        "a project": (False, []), "all projects": (True, []),
        "project, success": (False, [status]), "all, success": (True, [status]),
        "project, error: few": (False, [rare]), "all, error: few": (True, [rare]),
        "project, failed or error": (False, [not_well]),
        "project, function": (False, [function]), "all, function": (True, [function]),
        "project, function, error": (False, [function, rare]),
        "all, function, success": (True, [function, status]),
        "project, function without any": (False, [none]),
        "project, function of others": (False, [alien]),
        "project, since": (False, [since]), "all, since": (True, [since]),
        "project, until": (False, [until]),
        "project, function, success, until": (False, [function, status, until]),
    }


def measure(database: Database, times: int) -> None:
    """Print a row for each list: first page, a page in the middle, in both directions."""
    answers = lists.Lists(database, 30)
    caller = RequestContext(project_id=rows.LARGE, overwrite=False)
    ends = [Page(1, None, (("created_at", way),)) for way in ("asc", "desc")]
    first, last = (answers.page(caller, scope.Query(page)).items[0].created_at for page in ends)
    middle = first + (last - first) / 2
    print(f"{'ms: p50 (fastest)':34} {'oldest':>14} {'deep':>14} {'newest':>14} {'deep':>14}")
    for name, (every, filters) in cases(middle).items():
        wanted = [*scope.filters(caller, scope.Query(all_projects=every)), *filters]
        cells = []
        for way in ("asc", "desc"):
            page = Page(100, None, (("created_at", way),))
            deep = first + (last - first) * (0.7 if way == "asc" else 0.3)
            for place in (None, [deep, _ID]):
                taken = page_times(database, wanted, page, place, times)
                cells.append(f"{statistics.median(taken):.1f} ({min(taken):.1f})")
        print(f"{name:34}", *(f"{cell:>14}" for cell in cells), flush=True)


def page_times(database: Database, filters: list[Filter], page: Page,
               place: list[object] | None, times: int) -> list[float]:
    """Return what the query of a page took in the database and its driver, in ms."""
    with database.reader() as connection:
        plan = lists._INDEXES.plan(filters, page, connection)
        query = lists._query(connection.dialect, plan, filters, page, place)
        text = str(query.compile(dialect=connection.dialect,
                                 compile_kwargs={"literal_binds": True}))
        cursor = connection.connection.cursor()
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            cursor.execute(text)
            cursor.fetchall()
            taken.append((time.perf_counter() - began) * 1000)
        cursor.close()
    return taken


def write(database: Database, count: int) -> None:
    """Print what it costs to insert a row and to end it, in one transaction of many."""
    table = models.Execution.__table__
    made = [{"id": models.new_id(), "project_id": rows.LARGE, "function_id": rows.HOT,
             "function_version": 0, "status": states.RUNNING, "sync": True, "attempts": 1,
             "created_at": utcnow()} for _ in range(count)]
    ends = sa.update(table).where(table.c.id == sa.bindparam("which")).values(
        status=states.SUCCESS, finished_at=utcnow())
    figures = []
    for statement, values in ((sa.insert(table), made),
                              (ends, [{"which": row["id"]} for row in made])):
        began = time.perf_counter()
        with database.writer() as connection:
            for value in values:
                connection.execute(statement, value)
        figures.append((time.perf_counter() - began) / count * 1e6)
    with database.writer() as connection:
        connection.execute(sa.delete(table).where(
            table.c.id.in_([row["id"] for row in made])))
    print(f"insert {figures[0]:.0f} us, end {figures[1]:.0f} us a row ({count} in a transaction)")


def main() -> None:
    """Fill and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("connection", help="URL of the database")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to fill in; 0: none")
    parser.add_argument("--times", type=int, default=30, help="how often a page is read")
    options = parser.parse_args()
    database = databases.migrated(options.connection)
    if options.rows:
        began = time.monotonic()
        rows.load(database.engine, options.rows)
        print(f"{options.rows} rows and their indexes: {time.monotonic() - began:.0f} s")
    measure(database, options.times)
    write(database, 2000)
    database.close()


if __name__ == "__main__":
    main()
