# SPDX-License-Identifier: Apache-2.0
"""Drivers of PostgreSQL and MariaDB: time and CPU of what an execution asks of them.

    python -m tests.benchmarks.bench_drivers [--seconds 3] [--threads 8]

A round is the work of one accepted and one ended execution: three reads, an INSERT of two rows,
two compare-and-set UPDATEs and an INSERT, in two transactions. CPU is that of this process.
"""

from __future__ import annotations

import argparse
import threading
import time
import warnings

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import Database, utcnow
from tests import databases

DRIVERS = {
    "postgresql": ("psycopg", "psycopg2"),
    "mariadb": ("pymysql", "mysqldb"),
}
TABLE = models.Execution.__table__
INPUTS = models.ExecutionInput.__table__
RESULTS = models.ExecutionResult.__table__
RUNTIMES = models.Runtime.__table__


def round_(database: Database) -> None:
    """Do what one synchronous execution does."""
    execution_id = models.new_id()
    with database.reader() as connection:
        for _ in range(3):
            connection.execute(sa.select(RUNTIMES).where(RUNTIMES.c.id == "none")).first()
    with database.writer() as connection:
        connection.execute(sa.insert(TABLE), {
            "id": execution_id, "project_id": "p", "function_id": "f", "function_version": 0,
            "status": "running", "sync": True, "created_at": utcnow(), "attempts": 1,
            "runner_id": "r",
        })
        connection.execute(sa.insert(INPUTS), {"execution_id": execution_id, "data": b"{}" * 50})
    with database.writer() as connection:
        changed = connection.execute(
            sa.update(TABLE).where(TABLE.c.id == execution_id, TABLE.c.status == "running",
                                   TABLE.c.runner_id == "r", TABLE.c.attempts == 1)
            .values(status="success", finished_at=utcnow())
        )
        assert changed.rowcount == 1
        connection.execute(sa.insert(RESULTS), {"execution_id": execution_id, "data": b"{}" * 50})


def measure(url: str, seconds: float, threads: int) -> tuple[float, float]:
    """Return rounds a second, and CPU milliseconds of this process a round."""
    database = databases.migrated(url, max_pool_size=threads)
    for _ in range(50):
        round_(database)
    done = [0] * threads
    until = time.monotonic() + seconds

    def loop(number: int) -> None:
        while time.monotonic() < until:
            round_(database)
            done[number] += 1

    began, cpu = time.monotonic(), time.process_time()
    workers = [threading.Thread(target=loop, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    spent, cpu = time.monotonic() - began, time.process_time() - cpu
    database.close()
    return sum(done) / spent, cpu * 1000 / sum(done)


def main() -> None:
    """Print a line for each driver that is installed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'driver':<24}{'threads':>8}{'rounds/s':>10}{'CPU ms/round':>14}")
    for kind, drivers in DRIVERS.items():
        with databases.start(kind) as server:
            for driver in drivers:
                for threads in (1, options.threads):
                    url = sa.make_url(server.new_schema())
                    url = url.set(drivername=f"{url.get_backend_name()}+{driver}")
                    try:
                        rate, cpu = measure(url.render_as_string(hide_password=False),
                                            options.seconds, threads)
                    except ImportError:
                        print(f"{kind}+{driver}: not installed")
                        break
                    print(f"{kind + '+' + driver:<24}{threads:>8}{rate:>10.0f}{cpu:>14.2f}")


if __name__ == "__main__":
    main()
