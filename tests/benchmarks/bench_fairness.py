# SPDX-License-Identifier: Apache-2.0
"""What one project's flood does to another: python -m tests.benchmarks.bench_fairness.

Project B sends executions one at a time, first alone, then while project A sends thousands, and
while those are worked off. Printed is how long B's waited: an asynchronous one from its request
until the function began, by the function's own clock, and until B saw the end, a synchronous one
until it was answered; and how many times as long as alone that was. Then, on each database, what
the claim's look at the queue costs with 100,000 executions waiting. It asserts nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, pairwise

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.executions.queue import Queue
from tests import databases
from tests.functional.client import Api, output
from tests.functional.deployment import Deployment
from tests.functional.running import Running

#: Seconds that B's executions took; see :func:`one`.
Times = tuple[float, float, float]
SLEEPS = """
import time

def main(seconds=0.0, context=None):
    began = time.time()
    time.sleep(seconds)
    return began
"""


def one(api: Api, function: str) -> Times:
    """Run an asynchronous execution, and a synchronous one.

    :returns: seconds that the first waited, and until the end of it and of the second.
    """
    began = time.time()
    made = api.run(function, sync=False)
    while (record := api.show(made["id"]))["status"] == "running":
        time.sleep(0.01)
    assert record["status"] == "success", record
    between = time.time()
    api.run(function)
    return output(record) - began, between - began, time.time() - between


def tell(what: str, times: list[Times], alone: list[Times] | None = None) -> None:
    """Print a line; with how many times as long as alone it was."""
    line = f"{what:<38}{len(times):>5}"
    for number, some in enumerate(zip(*times, strict=True)):
        p50 = statistics.median(some)
        line += f"{p50 * 1000:>8.0f}{sorted(some)[int(len(some) * 0.95)] * 1000:>6.0f}"
        if alone is not None:
            line += f"{p50 / statistics.median(times[number] for times in alone):>6.1f}"
        else:
            line += " " * 6
    print(f"{line}{os.getloadavg()[0]:>6.0f}", flush=True)


def flood(urls: list[str], function: str, options: argparse.Namespace) -> None:
    """Put many executions of project A into the queue, from a process of its own."""
    body = {"function_id": function, "sync": False,
            "input": f'{{"seconds": {options.seconds}}}'}
    apis = [Api(url, "a") for _, url in zip(range(options.clients), cycle(urls))]

    def send(api: Api) -> None:
        for _ in range(options.flood // options.clients):
            api.ok("POST", "/v1/executions", 201, json=body)

    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(send, apis))


def measure(what: str, urls: list[str], options: argparse.Namespace, url: str,
            runtime: str | None) -> None:
    """Print B's waits without and with A's flood; both use all processes of the API."""
    records = sa.create_engine(url)
    more = {"runtime_id": runtime} if runtime else {}
    first, apis = Api(urls[0], "a"), cycle([Api(each, "b") for each in urls])
    theirs, mine = first.function(SLEEPS, **more), next(apis).function(SLEEPS, **more)
    for api, function in ((first, theirs), *((next(apis), mine) for _ in urls)):
        one(api, function)  # their first workers are there
    alone = [one(next(apis), mine) for _ in range(options.samples)]
    tell(f"{what}, B alone", alone)
    sender = multiprocessing.get_context("spawn").Process(
        target=flood, args=(urls, theirs, options))
    began = time.monotonic()
    sender.start()
    time.sleep(2)
    beside: list[Times] = []
    while sender.is_alive():
        beside.append(one(next(apis), mine))
    sender.join()
    spent = time.monotonic() - began
    tell(f"  beside A's {options.flood}, while they come", beside, alone)
    after: list[Times] = []
    while waiting(first, theirs) and time.monotonic() - began - spent < options.drain:
        after.append(one(next(apis), mine))
    if after:
        tell("  and while they are worked off", after, alone)
    with records.connect() as connection:
        table = models.Execution.__table__
        left = connection.execute(sa.select(sa.func.count()).select_from(table)
                                  .where(table.c.status == "running")).scalar_one()
    records.dispose()
    whole = time.monotonic() - began
    print(f"  A's were accepted at {options.flood / spent:.0f} a second,"
          f" {options.flood - left} worked off at {(options.flood - left) / whole:.0f}",
          flush=True)


def measure_waits(kind: str, folder: pathlib.Path, options: argparse.Namespace) -> None:
    """Measure one database's service: the embedded one, or processes of their own."""
    if kind == "sqlite":
        running = Running(folder / "data").wait_ready()
        try:
            measure("SQLite, embedded", [running.url], options,
                    f"sqlite:///{running.data_dir}/qinling_exec.sqlite", None)
        finally:
            running.kill()
        return
    place = folder / kind
    place.mkdir()
    with databases.start(kind, durable=True) as server, Deployment(
            place, server.new_schema(), apis=options.apis, engines=2) as deployment:
        measure(f"{kind}, {options.apis} API, 2 engines", [api.url for api in deployment.apis],
                options, deployment.url, deployment.runtime)
        deployment.kill()  # what is left of the flood need not be waited for


def waiting(api: Api, function: str) -> bool:
    """Tell whether executions of a function are not ended."""
    return bool(api.ok("GET", f"/v1/executions?function_id={function}&status=running&limit=1")
                ["executions"])


def look(kind: str, server: databases.Server, rows: int, versions: int) -> None:
    """Print what a look at a long queue costs."""
    database = databases.migrated(server.new_schema())
    for begin in range(0, rows, 10_000):
        with database.writer() as connection:
            connection.execute(sa.insert(models.Execution.__table__), [{
                "id": models.new_id(), "project_id": f"p{number % versions % 50}",
                "function_id": f"f{number % versions}", "function_version": 0,
                "status": "running", "sync": False, "created_at": utcnow(), "attempts": 0,
            } for number in range(begin, begin + 10_000)])
    queue, times = Queue(database), list[list[float]]()
    for _ in range(20):
        with database.reader(in_order=True) as connection:
            marks = [time.perf_counter()]
            groups = queue.groups(connection)
            marks.append(time.perf_counter())
            queue.waiting(connection, groups[:1], 48)
            marks.append(time.perf_counter())
        claim = queue.claim("nobody", groups[0], ["w", "w", "w"])
        marks.append(time.perf_counter())
        assert claim
        times.append([(late - early) * 1000 for early, late in pairwise(marks)])
    print(f"{kind:<12}{rows:>8}{versions:>9}" + "".join(
        f"{statistics.median(step):>10.1f}" for step in zip(*times, strict=True)), flush=True)
    database.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flood", type=int, default=10_000, help="executions of project A")
    parser.add_argument("--clients", type=int, default=4, help="of project A, at the same time")
    parser.add_argument("--apis", type=int, default=2, help="processes of the API")
    parser.add_argument("--drain", type=float, default=60, help="seconds to watch after them")
    parser.add_argument("--samples", type=int, default=60, help="of B, alone")
    parser.add_argument("--seconds", type=float, default=0.5, help="that A's function takes")
    parser.add_argument("--rows", type=int, default=100_000, help="that wait")
    parser.add_argument("--only", choices=["waits", "looks"])
    parser.add_argument("--databases", nargs="*", default=databases.KINDS)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qx"))
    if options.only != "looks":
        print(f"{'ms':<38}{'of B':>5}" + "".join(
            f"{name:>8}{'p95':>6}{'ratio':>6}" for name in ("wait", "end", "sync")) + "  load")
        for kind in options.databases:
            measure_waits(kind, folder, options)
    if options.only != "waits":
        print("database        rows versions groups ms waiting ms  claim ms")
        for kind in options.databases:
            with databases.start(kind) as server:
                for versions in (1, 100):
                    look(kind, server, options.rows, versions)


if __name__ == "__main__":
    main()
