# SPDX-License-Identifier: Apache-2.0
"""Measures what a purge costs the embedded service: python -m tests.benchmarks.bench_purge.

Prints synchronous executions a second and their p50 and p99, in turns without and with a purge
beside them. It asserts nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from tests.benchmarks import bench_service


def load(service: bench_service.Service, function: str, clients: int,
         seconds: float) -> list[float]:
    """Run executions from several clients for some time; return what each took, in seconds."""
    body = json.dumps({"function_id": function})
    times: list[float] = []
    until = time.monotonic() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        while time.monotonic() < until:
            began = time.perf_counter()
            bench_service.call(connection, "POST", "/v1/executions", body)
            times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="old executions")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10, help="of one measurement")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--share", default="10", help="of the purge, percent")
    options = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="qinling-bench-"))
    try:
        service = bench_service.Service(directory)
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        function = bench_service.create_function(connection, directory)
        service.stop()
        file = directory / "data" / "qinling_exec.sqlite"
        bench_service.fill(file, function, options.rows)
        config = directory / "purge.conf"
        config.write_text(f"[database]\nconnection = sqlite:///{file}\n")
        purge = [sys.executable, "-m", "qinling_exec.cmd.manage", "--config-file", str(config),
                 "db", "purge", "--older-than", "1", "--share", options.share]
        service = bench_service.Service(directory)
        load(service, function, options.clients, 3)
        print("           /s   p50 ms   p99 ms   deleted a second")
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
            print(f"{'purging' if turn % 2 else 'alone':8} {len(times) / options.seconds:5.0f}"
                  f" {statistics.median(times) * 1000:8.1f}"
                  f" {times[int(len(times) * 0.99)] * 1000:8.1f}"
                  f" {deleted / (options.seconds + 3):8.0f}", flush=True)
        service.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
