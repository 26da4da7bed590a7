# SPDX-License-Identifier: Apache-2.0
"""Measures claims alone: python -m tests.benchmarks.bench_claims [--databases postgresql ...].

Processes take executions of one function from the queue as engines do, nothing is run. It prints
claims a second and asserts only that everything was claimed, and nothing twice.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.executions import records, states
from qinling_exec.executions.queue import Group, Queue
from tests import databases

#: Seconds in which a process has to answer.
_PATIENCE = 600
_GROUP = Group("f", 0, "mine", utcnow())


def _fill(database: Database, count: int) -> None:
    with database.writer() as connection:
        connection.execute(sa.delete(records.table))
        connection.execute(sa.insert(records.table), [
            {"id": models.new_id(), "project_id": "mine", "function_id": "f",
             "function_version": 0, "status": states.RUNNING, "sync": False,
             "created_at": utcnow(), "attempts": 0} for _ in range(count)])


def _claim(url: str, batch: int, start: multiprocessing.synchronize.Event,
           claimed: multiprocessing.Queue[list[str] | BaseException]) -> None:
    """Claim until nothing waits; what goes wrong is for the parent, which waits for an answer."""
    try:
        _claim_all(url, batch, start, claimed)
    except BaseException as error:
        claimed.put(error)
        raise


def _claim_all(url: str, batch: int, start: multiprocessing.synchronize.Event,
               claimed: multiprocessing.Queue[list[str] | BaseException]) -> None:
    database = databases.opened(url)
    queue = Queue(database)
    with database.reader(in_order=True) as connection:
        queue.groups(connection)
    claimed.put([])
    start.wait()
    mine: list[str] = []
    while True:
        found = queue.claim(str(os.getpid()), _GROUP, ["w"] * batch)
        mine += [one.fence.execution_id for one in found]
        if not found:  # others may have taken what was looked at
            with database.reader(in_order=True) as connection:
                if not queue.groups(connection):
                    break
    database.close()
    claimed.put(mine)


def _answer(claimed: multiprocessing.Queue[list[str] | BaseException]) -> list[str]:
    answer = claimed.get(timeout=_PATIENCE)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _measure(url: str, count: int, engines: int, batch: int) -> float:
    context = multiprocessing.get_context("spawn")
    start, claimed = context.Event(), context.Queue()
    processes = [context.Process(target=_claim, args=(url, batch, start, claimed))
                 for _ in range(engines)]
    for process in processes:
        process.start()
    for _ in processes:
        _answer(claimed)
    began = time.monotonic()
    start.set()
    ids = [one for _ in processes for one in _answer(claimed)]
    seconds = time.monotonic() - began
    for process in processes:
        process.join()
    assert len(ids) == len(set(ids)), "claimed twice"
    assert len(ids) == count, f"{len(ids)} of {count} were claimed, and then nothing waited"
    return len(ids) / seconds


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", nargs="*", default=databases.KINDS)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    options = parser.parse_args()
    print(f"{'database':>11} {'at once':>7} {'engines':>7} {'claims/s':>9}  load")
    for kind in options.databases:
        with databases.start(kind, durable=True) as server:
            url = server.new_schema()
            database = databases.migrated(url)
            for batch in options.batches:
                for engines in (1, 2, 4):
                    _fill(database, options.count)
                    rate = _measure(url, options.count, engines, batch)
                    print(f"{kind:>11} {batch:>7} {engines:>7} {rate:>9.0f}"
                          f"  {os.getloadavg()[0]:.0f}", flush=True)
            database.close()


if __name__ == "__main__":
    main()
