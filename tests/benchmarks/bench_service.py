# SPDX-License-Identifier: Apache-2.0
"""Measures the embedded service: python -m tests.benchmarks.bench_service [--rows 1000000].

Prints start time, memory, synchronous executions at 1, 8 and 32 clients (p50, p99, throughput,
CPU of the whole process tree), and a page of 100 out of many rows. It asserts nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zipfile

_CODE = "def main(**kwargs):\n    return 1\n"
_HEADERS = {"Content-Type": "application/json"}


class Service:
    """A running service and its figures."""

    def __init__(self, directory: pathlib.Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._log = open(directory / "log", "a")  # noqa: SIM115
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "qinling_exec.cmd.standalone", "--port", str(self.port),
             "--data-dir", str(directory / "data")],
            stdout=subprocess.PIPE, stderr=self._log, text=True,
        )
        assert self.process.stdout is not None
        while "is listening" not in self.process.stdout.readline():
            if self.process.poll() is not None:
                raise SystemExit(f"The service did not start, see {directory}/log")
        self.start_seconds = time.monotonic() - began
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def tree(self) -> list[int]:
        """Return the pids of the service and everything below it."""
        parents = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    stat = pathlib.Path(f"/proc/{name}/stat").read_text()
                except OSError:
                    continue
                parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_seconds(self) -> float:
        """Return the CPU time of the tree, of processes that have ended included."""
        ticks = 0
        for pid in self.tree():
            try:
                stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
            except OSError:
                continue
            ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> tuple[float, float]:
        """Return the proportional memory of the service itself and of its whole tree."""
        def of(pid: int) -> float:
            try:
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                return 0.0
            return int(text.split("Pss:")[1].split()[0]) / 1024

        return of(self.process.pid), sum(map(of, self.tree()))

    def stop(self) -> None:
        """End the service."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self._log.close()


def call(connection: http.client.HTTPConnection, method: str, path: str,
         body: bytes | str | None = None, headers: dict[str, str] | None = None) -> dict:
    """Send a request and return its JSON."""
    connection.request(method, path, body, headers or _HEADERS)
    response = connection.getresponse()
    data = json.loads(response.read())
    if response.status >= 400:
        raise SystemExit(f"{method} {path}: {data}")
    return data


def create_function(connection: http.client.HTTPConnection, directory: pathlib.Path) -> str:
    """Create an empty function and return its id."""
    with zipfile.ZipFile(directory / "f.zip", "w") as package:
        package.writestr("main.py", _CODE)
    (runtime,) = call(connection, "GET", "/v1/runtimes")["runtimes"]
    boundary = uuid.uuid4().hex
    parts = b"".join(
        (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
         f"{value}\r\n").encode()
        for name, value in (("runtime_id", runtime["id"]), ("code", '{"source": "package"}'))
    )
    parts += (f'--{boundary}\r\nContent-Disposition: form-data; name="package";'
              ' filename="f.zip"\r\n\r\n').encode()
    parts += (directory / "f.zip").read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return call(connection, "POST", "/v1/functions", parts, kind)["id"]


def run_clients(service: Service, function: str, clients: int, each: int) -> None:
    """Run synchronous executions from several clients and print a row."""
    body = json.dumps({"function_id": function})
    times: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        for _ in range(each):
            began = time.perf_counter()
            call(connection, "POST", "/v1/executions", body)
            times.append(time.perf_counter() - began)

    cpu, began = service.cpu_seconds(), time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    cpu_each = (service.cpu_seconds() - cpu) / len(times) * 1000
    times.sort()
    print(f"{clients:>7} {statistics.median(times) * 1000:8.1f}"
          f" {times[int(len(times) * 0.99) - 1] * 1000:8.1f} {len(times) / seconds:8.0f}"
          f" {cpu_each:8.1f}")


def fill(path: pathlib.Path, function: str, rows: int) -> None:
    """Add ended executions to the database of a stopped service."""
    database = sqlite3.connect(path)
    columns = "id, project_id, function_id, function_version, status, sync, created_at, attempts"
    database.executemany(
        f"INSERT INTO executions ({columns}) VALUES (?, 'default', ?, 0, 'success', 1, ?, 1)",
        ((str(uuid.UUID(int=number)), function,
          f"2025-{number % 12 + 1:02}-{number % 28 + 1:02} 10:00:{number % 60:02}"
          f".{number % 10**6:06}")
         for number in range(rows)),
    )
    database.commit()
    database.close()


def list_pages(service: Service, function: str) -> None:
    """Measure pages of 100 and print rows."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    for name, query in (("oldest first", ""), ("newest first", "&sort=created_at:desc"),
                        ("by status", "&status=success"),
                        ("by function", f"&function_id={function}")):
        times = []
        for _ in range(50):
            began = time.perf_counter()
            page = call(connection, "GET", f"/v1/executions?limit=100{query}")
            times.append(time.perf_counter() - began)
            assert len(page["executions"]) == 100
        deep = page["next"].partition(str(service.port))[2]
        for _ in range(20):
            deep = call(connection, "GET", deep)["next"].partition(str(service.port))[2]
        began = time.perf_counter()
        call(connection, "GET", deep)
        print(f"{name:>14} {statistics.median(times) * 1000:8.1f}"
              f" {(time.perf_counter() - began) * 1000:12.1f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows for the pages")
    parser.add_argument("--each", type=int, default=300, help="executions of one client")
    options = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="qinling-bench-"))
    try:
        service = Service(directory)
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        function = create_function(connection, directory)
        run_clients(service, function, 1, 20)
        print(f"start: {service.start_seconds:.2f} s until it can run a function")
        print("clients   p50 ms   p99 ms      /s   CPU ms each (whole tree)")
        for clients, each in ((1, options.each), (8, options.each // 4), (32, options.each // 10)):
            run_clients(service, function, clients, each)
        alone, tree = service.memory_mib()
        print(f"memory: {alone:.0f} MiB the service, {tree:.0f} MiB with its workers")
        service.stop()
        fill(directory / "data" / "qinling_exec.sqlite", function, options.rows)
        service = Service(directory)
        print(f"start with {options.rows} rows: {service.start_seconds:.2f} s")
        print("  page of 100   p50 ms   20 pages on")
        list_pages(service, function)
        service.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
