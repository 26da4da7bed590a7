# SPDX-License-Identifier: Apache-2.0
"""Follows logs of the embedded service with many clients, and prints what that costs.

    python -m tests.benchmarks.bench_follow --followers 500 --executions 5 --seconds 20

Each function prints the time five times a second; a client's latency is the time between the
printing and the reading. One in ten of the clients does not read at all.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.functional.running import Running

CODE = '''
import time


def main(seconds, pause, size, **kwargs):
    end = time.time() + seconds
    while time.time() < end:
        print("%.6f" % time.time(), "x" * size, flush=True)
        time.sleep(pause)
'''


def status(pid: int) -> tuple[int, int, int]:
    """Return resident KiB, threads and open files of a process."""
    lines = dict(line.split(":", 1) for line in
                 Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(lines["VmRSS"].split()[0]), int(lines["Threads"]), files


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Client:
    """A follower; it notes how old each line is when it comes."""

    def __init__(self, url: str, execution_id: str, reads: bool) -> None:
        address = urlsplit(url)
        self.reads = reads
        self.socket = socket.create_connection((address.hostname, address.port), 30)
        self.socket.sendall(f"GET /v1/executions/{execution_id}/log?follow=true HTTP/1.0\r\n"
                            "Accept: text/plain\r\n\r\n".encode())
        self.socket.setblocking(False)
        self.ended = False
        self.latencies: list[float] = []
        self._rest = b""
        self._body = False

    def read(self, began: float) -> None:
        """Take what is there. :param began: lines from before count for nothing."""
        data = self.socket.recv(1 << 18)
        now = time.time()
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._body:
                self._body = line == b"\r"
                continue
            printed = float(line.split()[0])
            if printed >= began:
                self.latencies.append(now - printed)


def follow(running: Running, options: argparse.Namespace) -> None:
    """Start executions, follow them to their ends, and print the figures."""
    api = running.api()
    pid = running.process.pid
    function = api.function(CODE, timeout="300")
    given = {"seconds": options.seconds + 15, "pause": 0.2, "size": options.size}
    made = [api.run(function, given, sync=False)["id"] for _ in range(options.executions)]
    for execution in made:
        while not api.log(execution):
            time.sleep(0.1)
    before, used = status(pid), cpu(pid)
    print(f"{options.executions} executions print, nobody follows: {before[0] // 1024} MiB,"
          f" {before[1]} threads, {before[2]} files")
    time.sleep(5)
    print(f"  processor: {(cpu(pid) - used) / 5:.1%}")
    clients = [Client(running.url, made[number % len(made)], number % 10 != 9)
               for number in range(options.followers)]
    selector = selectors.DefaultSelector()
    for client in clients:
        if client.reads:
            selector.register(client.socket, selectors.EVENT_READ, client)
    began, used = time.time() + 2, 0.0
    most, at = before, time.monotonic()
    while selector.get_map():
        for key, _ in selector.select(1):
            key.data.read(began)
            if key.data.ended:
                selector.unregister(key.fileobj)
        if time.monotonic() - at > 1:
            at, now = time.monotonic(), status(pid)
            used = used or cpu(pid)
            most = max(most[0], now[0]), max(most[1], now[1]), max(most[2], now[2])
            until, spent = time.time(), cpu(pid) - used
    latencies = sorted(value for client in clients for value in client.latencies)
    print(f"{options.followers} followers: {most[0] // 1024} MiB (+"
          f"{(most[0] - before[0]) // 1024}), {most[1]} threads (+{most[1] - before[1]}),"
          f" {most[2]} files")
    print(f"  processor: {spent / max(1.0, until - began + 2):.1%}, {len(latencies)} lines read")
    print(f"  latency: p50 {statistics.median(latencies) * 1000:.0f} ms,"
          f" p99 {latencies[len(latencies) * 99 // 100] * 1000:.0f} ms,"
          f" max {latencies[-1] * 1000:.0f} ms")
    assert all(client.ended for client in clients if client.reads)
    for client in clients:
        client.socket.close()
    api.close()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--followers", type=int, default=500)
    parser.add_argument("--executions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--size", type=int, default=100, help="bytes of a line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        running = Running(Path(folder) / "data").wait_ready()
        try:
            follow(running, options)
        finally:
            running.stop()


if __name__ == "__main__":
    main()
