# SPDX-License-Identifier: Apache-2.0
"""Measures a warm worker: ``python -m tests.benchmarks.bench_worker [RUNS] [confined|bare]``.

``confined`` is one as in a pod, without namespaces; ``bare`` one that has no Landlock either.
Each case is run one after the other over a kept connection. The CPU time is that of the whole
tree of processes of the worker; with a pause between runs it shows what an idle machine needs.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import time

from tests.functional import processes
from tests.unit.runtime.client import Connection
from tests.unit.runtime.conftest import BARE, CONFINED
from tests.unit.runtime.worker import Worker

SOURCE = """
def main(printed=0, **kwargs):
    for _ in range(printed):
        print("x" * 79)
"""
CASES = (("empty", {}, 0.0), ("empty, 10 ms pause", {}, 0.01), ("prints 1000 lines",
         {"printed": 1000}, 0.0))


def _ticks(pid: int) -> int:
    """CPU time of a process and of those it has waited for."""
    with contextlib.suppress(OSError):
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, stat[11:15]))
    return 0


def _tree(pid: int) -> float:
    pids = {pid, *(child for child, _ in processes.descendants(pid))}
    return sum(map(_ticks, pids)) * 1000 / os.sysconf("SC_CLK_TCK")


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    wrap = {"confined": CONFINED, "bare": BARE}[sys.argv[2]] if len(sys.argv) > 2 else ()
    worker = Worker(wrap=wrap, apart=bool(wrap))
    try:
        began = time.perf_counter()
        worker.specialize(SOURCE)
        print(f"specialize: {(time.perf_counter() - began) * 1000:.1f} ms;"
              f" isolation: {worker.ping()['isolation']}")
        print(f"{'case':24}{'runs':>6}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms/run':>12}")
        connection = Connection(worker.path)
        for name, given, pause in CASES:
            worker.run(given, connection)
            taken = []
            before = _tree(worker.process.pid)
            for _ in range(runs):
                time.sleep(pause)
                began = time.perf_counter()
                worker.run(given, connection)
                taken.append((time.perf_counter() - began) * 1000)
            used = (_tree(worker.process.pid) - before) / runs
            taken.sort()
            print(f"{name:24}{runs:6}{taken[runs // 2]:9.2f}{taken[runs * 99 // 100]:9.2f}"
                  f"{used:12.2f}")
        connection.close()
    finally:
        worker.stop()


if __name__ == "__main__":
    main()
