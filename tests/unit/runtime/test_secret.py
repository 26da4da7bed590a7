# SPDX-License-Identifier: Apache-2.0
"""A worker on TCP that gets its secret when it is specialised, as in a pod."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from qinling_exec.orchestrator.wire import Wire, WorkerRefused
from qinling_exec.orchestrator.workers import READY
from qinling_exec.orchestrator.workers import Worker as Row
from tests.unit.runtime.client import SIZE, package
from tests.unit.runtime.conftest import BARE

ZIP = package("def main(**kwargs):\n    return 'done'")
SPEC = json.dumps({"function_id": "f", "function_version": 0, "entry": "main.main",
                   "sha256": hashlib.sha256(ZIP).hexdigest(), "memory_size": SIZE})
ORDER = json.dumps({"execution_id": "e", "attempt": 1, "function_id": "f", "function_version": 0,
                    "input": {}, "timeout": 5})


class Pod:
    """A worker that was started without a secret."""

    def __init__(self, scratch: pathlib.Path, wrap: tuple[str, ...] = ()) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [*wrap, sys.executable, "-m", "qinling_exec.runtime", "--listen",
             f"127.0.0.1:{self.port}", "--scratch", str(scratch)],
            env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while True:
            try:
                assert self.call("GET", "/ping")[0] == 200
                break
            except OSError:
                assert time.monotonic() < until and self.process.poll() is None
                time.sleep(0.01)

    def call(self, method: str, path: str, secret: str | None = None, body: bytes | str = b"",
             spec: str | None = None) -> tuple[int, dict[str, Any]]:
        headers = {} if secret is None else {"Authorization": secret}
        if spec is not None:
            headers["X-Worker-Spec"] = spec
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def specialize(self, secret: str | None, body: bytes = ZIP, spec: str = SPEC) -> int:
        return self.call("POST", "/specialize", secret, body, spec)[0]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def pod(tmp_path: pathlib.Path) -> Iterator[Pod]:
    pod = Pod(tmp_path / "scratch")
    try:
        yield pod
    finally:
        assert pod.stop() == 0


def test_first_specialise_brings_the_secret(pod: Pod) -> None:
    assert pod.call("GET", "/ping")[1]["status"] == "generic"
    assert pod.specialize("Bearer mine") == 200
    assert pod.call("GET", "/ping")[1]["status"] == "ready"
    assert pod.call("POST", "/execute", "Bearer mine", ORDER)[1]["output"] == "done"
    for secret in (None, "", "Bearer", "Bearer other", "Bearer mine2", "Basic mine"):
        assert pod.call("POST", "/execute", secret, ORDER)[0] == 401
        assert pod.call("POST", "/cancel/e", secret)[0] == 401
        assert pod.specialize(secret) == 401
    assert pod.specialize("Bearer mine") == 409
    assert pod.call("POST", "/execute", "Bearer mine", ORDER)[0] == 200


@pytest.mark.parametrize("secret", [None, "Bearer", "Bearer ", "Bearer x"])
@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/execute"), ("POST", "/cancel/e"), ("GET", "/specialize"), ("POST", "/other")])
def test_nothing_else_is_answered_before(pod: Pod, method: str, path: str,
                                         secret: str | None) -> None:
    status, answer = pod.call(method, path, secret)
    assert (status, "no secret yet" in answer["error"]) == (401, True)


@pytest.mark.parametrize("secret", [None, "", "Bearer", "Bearer ", "Basic abc"])
def test_specialise_without_a_secret_takes_nothing(pod: Pod, secret: str | None) -> None:
    assert pod.specialize(secret) == 401
    assert pod.call("GET", "/ping")[1]["status"] == "generic"
    assert pod.specialize("Bearer mine") == 200


def test_spec_that_is_refused_takes_nothing(pod: Pod) -> None:
    assert pod.specialize("Bearer other", spec="{}") == 400
    assert pod.specialize("Bearer mine") == 200


def test_package_that_is_refused_leaves_the_secret(pod: Pod) -> None:
    """Whoever came first may try again; nobody else can come in between."""
    assert pod.specialize("Bearer mine", body=b"not the package") == 400
    assert pod.call("GET", "/ping")[1]["status"] == "generic"
    assert pod.specialize("Bearer other") == 401
    assert pod.specialize("Bearer mine") == 200


def test_secret_is_taken_before_the_package_has_come(pod: Pod) -> None:
    """Two at once: the second one can't overtake the first, whose package is on its way."""
    with socket.create_connection(("127.0.0.1", pod.port), timeout=20) as first:
        first.sendall(b"POST /specialize HTTP/1.1\r\nAuthorization: Bearer mine\r\n"
                      b"Content-Length: %d\r\nX-Worker-Spec: %s\r\n\r\n"
                      % (len(ZIP), SPEC.encode()) + ZIP[:10])
        until = time.monotonic() + 10
        while pod.call("POST", "/execute", "Bearer mine", ORDER)[0] == 401:
            assert time.monotonic() < until
        assert pod.specialize("Bearer other") == 401
        assert pod.specialize("Bearer mine") == 409
        first.sendall(ZIP[10:])
        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert pod.call("POST", "/execute", "Bearer mine", ORDER)[0] == 200


def test_service_side(pod: Pod) -> None:
    """What the service uses to talk to workers gets along with it."""
    wire = Wire()
    row = Row("w", "f", 0, "", READY, None, f"127.0.0.1:{pod.port}", 3, "mine")
    with (pathlib.Path(os.devnull)).open("rb") as nothing, pytest.raises(WorkerRefused):
        wire.specialize(row, nothing, 0, json.loads(SPEC), 10)
    assert wire.ping(row)["status"] == "generic"
    wire.forget(row)


@pytest.fixture
def first_process(tmp_path: pathlib.Path) -> Iterator[Pod]:
    """A worker that is the first process of its namespace, as in a container; no Landlock."""
    wrap = (*BARE[:3], "--pid", "--fork", "--mount-proc", "--kill-child", *BARE[3:])
    if subprocess.run([*wrap, "true"], capture_output=True).returncode:
        pytest.skip("there are no user namespaces here")
    pod = Pod(tmp_path / "scratch", wrap)
    yield pod
    pod.process.kill()
    pod.process.wait(20)


def test_signals_from_outside_end_the_first_process(first_process: Pod) -> None:
    children = pathlib.Path(f"/proc/{first_process.process.pid}/task/"
                            f"{first_process.process.pid}/children").read_text().split()
    assert first_process.call("GET", "/ping")[1]["pid"] == 1
    os.kill(int(children[0]), signal.SIGTERM)
    assert first_process.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL,
                                    signal.SIGSTOP, signal.SIGHUP])
def test_signals_from_runs_do_not(first_process: Pod, number: signal.Signals) -> None:
    data = package(f"import os\ndef main():\n    os.kill(1, {int(number)})\n    return 'sent'")
    spec = {**json.loads(SPEC), "sha256": hashlib.sha256(data).hexdigest()}
    assert first_process.specialize("Bearer mine", data, json.dumps(spec)) == 200
    assert not any(first_process.call("GET", "/ping")[1]["isolation"].values())
    for _ in range(3):
        status, answer = first_process.call("POST", "/execute", "Bearer mine", ORDER)
        assert (status, answer.get("output")) == (200, "sent")


def test_run_that_stops_everything_stops_no_later_run(first_process: Pod) -> None:
    """The processes that look after runs stayed stopped, and later runs hung to their timeout."""
    data = package("""
        import os, signal, time
        def main(stop):
            if stop:
                os.kill(-1, signal.SIGSTOP)
                time.sleep(60)
            return 'went on'
        """)
    spec = {**json.loads(SPEC), "sha256": hashlib.sha256(data).hexdigest()}
    assert first_process.specialize("Bearer mine", data, json.dumps(spec)) == 200
    order = {**json.loads(ORDER), "input": {"stop": True}, "timeout": 1}
    answer = first_process.call("POST", "/execute", "Bearer mine", json.dumps(order))[1]
    assert answer["reason"] == "timeout"
    order |= {"input": {"stop": False}, "timeout": 15}
    for _ in range(4):
        answer = first_process.call("POST", "/execute", "Bearer mine", json.dumps(order))[1]
        assert answer["output"] == "went on"
