# SPDX-License-Identifier: Apache-2.0
"""Measures what a purge costs the service: python -m tests.benchmarks.bench_purge.

Prints synchronous executions a second and their p50 and p99, in turns without and with a purge
beside them, on each database. It asserts nothing.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import sqlalchemy as sa

from tests import databases
from tests.benchmarks import rows_of_executions as rows
from tests.functional.client import Api
from tests.functional.running import Running

EMPTY = "def main():\n    pass\n"


def load(service: Running, function: str, clients: int, seconds: float) -> list[float]:
    """Run executions from several clients for some time; return what each took, in seconds."""
    times: list[float] = []
    until = time.monotonic() + seconds

    def client(api: Api) -> None:
        while time.monotonic() < until:
            began = time.perf_counter()
            api.run(function)
            times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(service.api(),)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def fill(url: str, count: int) -> None:
    """Make the tables, with old executions in them."""
    databases.migrated(url).close()
    engine = sa.create_engine(url, connect_args={"local_infile": True} if (
        "mysql" in url) else {})
    rows.load(engine, count)
    engine.dispose()


def measure(kind: str, url: str, folder: pathlib.Path, options: argparse.Namespace) -> None:
    """Print a line for each turn."""
    fill(url, options.rows)
    settings = f"[database]\nconnection = {url}\n"
    config = folder / f"{kind}.conf"
    config.write_text(settings)
    purge = [sys.executable, "-m", "qinling_exec.cmd.manage", "--config-file", str(config),
             "db", "purge", "--older-than", "1", "--share", options.share]
    service = Running(folder / kind, settings=settings).wait_ready()
    try:
        function = service.api().function(EMPTY)
        load(service, function, options.clients, 3)
        for turn in range(options.turns * 2):
            process = subprocess.Popen(purge, stdout=subprocess.PIPE, text=True) if (
                turn % 2) else None
            time.sleep(3)  # its start is no part of what is measured
            times = sorted(load(service, function, options.clients, options.seconds))
            deleted = 0
            if process is not None:
                process.terminate()
                counts = re.findall(r"^(\d+)", process.communicate()[0], re.M)
                deleted = int(counts[-1]) if counts else 0
            print(f"{kind:12}{'purging' if turn % 2 else 'alone':8}"
                  f" {len(times) / options.seconds:5.0f} {statistics.median(times) * 1000:8.1f}"
                  f" {times[int(len(times) * 0.99)] * 1000:8.1f}"
                  f" {deleted / (options.seconds + 3):8.0f}", flush=True)
    finally:
        service.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="old executions")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10, help="of one measurement")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--share", default="10", help="of the purge, percent")
    parser.add_argument("--databases", nargs="*", default=databases.KINDS)
    options = parser.parse_args()
    print(f"{'database':12}            /s   p50 ms   p99 ms   deleted a second")
    with tempfile.TemporaryDirectory(prefix="qb") as folder:
        for kind in options.databases:
            with databases.start(kind, durable=True) as server:
                measure(kind, server.new_schema(), pathlib.Path(folder), options)


if __name__ == "__main__":
    main()
