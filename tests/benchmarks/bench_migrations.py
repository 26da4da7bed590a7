# SPDX-License-Identifier: Apache-2.0
"""Migrations beside a service that goes on: how long one of them makes an INSERT wait.

    python -m tests.benchmarks.bench_migrations [--rows 1000000] [--kinds sqlite postgresql]

All migrations but the first are taken back and made again while four threads insert executions and
read their own. For each direction: how long it took, how many inserts went through meanwhile, and
how long the slowest one took. SQLite has one lock for all, and is measured without the inserts.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from qinling_exec.db import migration, models
from qinling_exec.db.engine import Database, utcnow
from tests import databases

TABLE = models.Execution.__table__
#: Those that each revision has.
COLUMNS = ("id", "project_id", "function_id", "function_version", "status", "sync", "created_at",
           "attempts", "runner_id")
INSERT = sa.text(f"INSERT INTO executions ({', '.join(COLUMNS)}) VALUES"
                 f" ({', '.join(f':{name}' for name in COLUMNS)})")


def row(number: int) -> dict[str, object]:
    """Return an execution; every thousandth is running."""
    return {
        "id": models.new_id(), "project_id": f"p{number % 50}", "function_id": f"f{number % 500}",
        "function_version": 0, "status": "running" if number % 1000 == 0 else "success",
        "sync": True, "created_at": datetime(2026, 1, 1) + timedelta(seconds=number),
        "attempts": 1, "runner_id": "r",
    }


def fill(database: Database, rows: int) -> None:
    """Store executions."""
    for begin in range(0, rows, 20_000):
        with database.writer() as connection:
            connection.execute(sa.insert(TABLE),
                               [row(number) for number in range(begin, begin + 20_000)])


class Load:
    """Inserts and reads until it is stopped."""

    def __init__(self, database: Database, threads: int = 4) -> None:
        self._database = database
        self._stop = threading.Event()
        self.times: list[float] = []
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._loop) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        time.sleep(1)
        return self

    def __exit__(self, *_exception: object) -> None:
        time.sleep(1)
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(0.002):
            new = {**row(1), "created_at": utcnow()}
            began = time.monotonic()
            try:
                with self._database.writer() as connection:
                    connection.execute(INSERT, new)
                    connection.execute(sa.text("SELECT status FROM executions WHERE id = :id"),
                                       {"id": new["id"]}).all()
            except Exception as error:
                self.errors.append(str(error))
            self.times.append(time.monotonic() - began)


def measure(database: Database, what: str, change: Callable[[Database, str], None],
            revision: str) -> tuple[float, float]:
    """Make a change under load; return how long it and the slowest insert took."""
    with Load(database, 0 if database.kind == "sqlite" else 4) as load:
        began = time.monotonic()
        change(database, revision)
        spent = time.monotonic() - began
    times = sorted(load.times) or [0.0]
    print(f"{what:<28}{spent:>8.1f} s{len(load.times):>9} inserts, slowest {times[-1]:6.3f} s,"
          f" p99 {times[len(times) * 99 // 100]:6.3f} s,"
          f" {len(load.errors)} errors {set(load.errors) or ''}", flush=True)
    return spent, times[-1]


def main() -> None:
    """Print two lines for each database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", default=databases.KINDS)
    options = parser.parse_args()
    for kind in options.kinds:
        with databases.start(kind, durable=True) as server:
            database = databases.migrated(server.url)
            fill(database, options.rows)
            measure(database, f"{kind}, down", migration.downgrade, "0001")
            measure(database, f"{kind}, up", migration.upgrade, "head")
            database.close()


if __name__ == "__main__":
    main()
