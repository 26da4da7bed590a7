# SPDX-License-Identifier: Apache-2.0
"""How a worker gets its function, and that one which is refused leaves it as it was."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.unit.runtime.client import SECRET, SIZE, package
from tests.unit.runtime.worker import Worker

SOURCE = "def main():\n    return 0"


def test_generic_worker_runs_nothing(fresh: Worker) -> None:
    assert fresh.call("POST", "/execute", json.dumps(fresh.order())) == (
        409, {"error": "This worker has no function yet."})


@pytest.mark.parametrize("spec", [
    {"sha256": "0" * 64}, {"entry": "main"}, {"entry": ".main"}, {"limits": "x"},
    {"memory_size": "x"}, {"function_version": None}, {"limits": {"package": {"size": 10}}}])
def test_refused_package_leaves_a_generic_worker(fresh: Worker, spec: dict[str, Any]) -> None:
    status, answer = fresh.offer(package(SOURCE), **spec)
    assert status in (400, 413)
    assert set(answer) == {"error"}
    assert fresh.ping()["status"] == "generic"
    assert not (fresh.directory / "scratch" / "code").exists()
    assert not (fresh.directory / "scratch" / "package.zip").exists()
    fresh.specialize(SOURCE)
    assert fresh.run()["output"] == 0


def test_package_that_is_no_zip(fresh: Worker) -> None:
    assert fresh.offer(b"no zip")[0] == 400
    fresh.specialize(SOURCE)


def test_package_in_chunks(fresh: Worker) -> None:
    data = package({"main.py": SOURCE, "more": "x" * 300_000})
    spec = {"function_id": "f", "function_version": 0, "entry": "main.main",
            "sha256": hashlib.sha256(data).hexdigest(), "memory_size": SIZE}
    status, _ = fresh.call("POST", "/specialize",
                           iter([data[:1000], data[1000:200_000], data[200_000:]]),
                           {"X-Worker-Spec": json.dumps(spec)})
    assert status == 200
    assert fresh.run()["output"] == 0


def test_upload_that_stops_half_way_leaves_a_generic_worker(fresh: Worker) -> None:
    data = package(SOURCE)
    spec = {"function_id": "f", "function_version": 0, "entry": "main.main",
            "sha256": hashlib.sha256(data).hexdigest()}
    head = (f"POST /specialize HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\nX-Worker-Spec:"
            f" {json.dumps(spec)}\r\nContent-Length: {len(data)}\r\n\r\n").encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(fresh.path)
        client.sendall(head + data[:20])
    time.sleep(0.1)
    fresh.specialize(SOURCE)


def test_zygote_has_little_in_memory() -> None:
    """Every run is a copy of it: asyncio made it 22 MB in place of 13, and runs a third slower."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, qinling_exec.runtime.zygote; print(*sys.modules)"],
        capture_output=True, text=True, check=True).stdout.split()
    assert {"asyncio", "dataclasses", "inspect", "logging", "subprocess", "threading"}.isdisjoint(
        loaded)
