# SPDX-License-Identifier: Apache-2.0
"""The worker's HTTP: what is accepted, what is refused, and that it stays usable."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from qinling_exec.runtime.runs import Run
from tests.functional import processes
from tests.unit.runtime.client import SECRET, Connection, package
from tests.unit.runtime.worker import Worker

SOURCE = "import time\ndef main(seconds=0):\n    time.sleep(seconds)\n    return seconds"


@pytest.fixture(scope="module")
def ready() -> Any:
    worker = Worker(room=2)
    try:
        worker.specialize(SOURCE)
        yield worker
    finally:
        worker.stop()


def raw(worker: Worker, data: bytes) -> bytes:
    """Send bytes; return what comes until the worker closes or is silent."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.5)
        client.connect(worker.path)
        client.sendall(data)
        got = b""
        try:
            while part := client.recv(65536):
                got += part
        except TimeoutError:
            pass
        return got


def test_ping(fresh: Worker) -> None:
    state = fresh.ping()
    assert state == {
        "status": "generic", "function_id": None, "function_version": None, "room": 3,
        "running": 0, "idle_seconds": state["idle_seconds"], "isolation": state["isolation"],
        "pid": fresh.process.pid}
    fresh.specialize(SOURCE, room=5, function_version=2)
    state = fresh.ping()
    assert (state["status"], state["function_id"], state["function_version"], state["room"]) == (
        "ready", "f", 2, 5)
    thread, _ = fresh.background({"seconds": 0.4}, function_version=2)
    assert processes.wait_for(lambda: fresh.ping()["running"] == 1, 3)
    assert fresh.ping()["idle_seconds"] == 0
    thread.join()
    time.sleep(0.05)
    assert 0 < fresh.ping()["idle_seconds"] < 5


def test_ping_needs_no_secret(ready: Worker) -> None:
    assert ready.call("GET", "/ping", secret="wrong")[0] == 200


@pytest.mark.parametrize("path", ["/specialize", "/execute", "/cancel/x", "/other"])
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {SECRET}",
                                    f"Bearer {SECRET}x", "Bearer é"])
def test_everything_else_needs_the_secret(ready: Worker, path: str, header: str | None) -> None:
    connection = Connection(ready.path)
    connection.putrequest("POST", path)
    if header is not None:
        connection.putheader("Authorization", header.encode())
    connection.putheader("Content-Length", "2")
    connection.endheaders(b"{}")
    response = connection.getresponse()
    assert response.status == 401
    assert json.loads(response.read()) == {"error": "The secret is missing or wrong."}
    connection.close()


def test_unknown_paths_and_methods(ready: Worker) -> None:
    assert ready.call("POST", "/other")[0] == 404
    for path in ("/execute", "/specialize", "/cancel/x"):
        assert ready.call("GET", path)[0] == 405
    assert ready.call("POST", "/cancel/nothing") == (
        404, {"error": "The execution is not running here."})


def test_room_is_enforced(ready: Worker) -> None:
    runs = [ready.background({"seconds": 0.5}) for _ in range(2)]
    assert processes.wait_for(lambda: ready.ping()["running"] == 2, 3)
    assert ready.call("POST", "/execute", json.dumps(ready.order())) == (
        429, {"error": "There is no room for another run."})
    for thread, answer in runs:
        thread.join()
        assert answer["success"]
    assert ready.run({"seconds": 0})["success"]


def test_many_clients_never_have_more_than_the_room(ready: Worker) -> None:
    codes = []

    def client() -> None:
        for _ in range(10):
            codes.append(ready.call("POST", "/execute", json.dumps(ready.order()))[0])

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {200, 429}
    assert codes.count(200) >= 10
    assert ready.ping()["running"] == 0


@pytest.mark.parametrize("change", [{"function_id": "other"}, {"function_version": 1}])
def test_another_function_is_refused(ready: Worker, change: dict[str, Any]) -> None:
    status, answer = ready.call("POST", "/execute", json.dumps(ready.order(**change)))
    assert (status, answer) == (409, {"error": "This worker runs another function."})


def test_same_execution_twice_is_refused(ready: Worker) -> None:
    thread, _ = ready.background({"seconds": 0.4}, execution_id="same")
    assert processes.wait_for(lambda: ready.ping()["running"] == 1, 3)
    status, answer = ready.call("POST", "/execute", json.dumps(
        ready.order(execution_id="same")))
    assert (status, answer) == (409, {"error": "The execution is running here already."})
    thread.join()


def test_worker_is_specialised_once(ready: Worker) -> None:
    status, answer = ready.offer(package(SOURCE))
    assert (status, answer) == (409, {"error": "This worker has a function already."})


@pytest.mark.parametrize("body", ["", "no json", "[]", "null", "{}", '{"execution_id": "x"}',
                                  '{"execution_id": "x", "timeout": 0}',
                                  '{"execution_id": "x", "timeout": NaN}',
                                  '{"execution_id": "x", "timeout": "soon"}',
                                  "[" * 100_000])
def test_body_that_is_no_order(ready: Worker, body: str) -> None:
    status, answer = ready.call("POST", "/execute", body)
    assert (status, set(answer)) == (400, {"error"})
    assert ready.run()["success"]


AUTHORISED = f"POST /execute HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\n".encode()


@pytest.mark.parametrize("data", [
    b"nonsense\r\n\r\n", b"GET /ping\r\n\r\n", b"GET /ping HTTP/2\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nno colon\r\n\r\n", b"GET /ping HTTP/1.1\r\nspace : x\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
    AUTHORISED + b"Content-Length: x\r\n\r\n", AUTHORISED + b"Content-Length: -1\r\n\r\n",
    AUTHORISED + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    AUTHORISED + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    AUTHORISED + b"Transfer-Encoding: gzip\r\n\r\n{}",
    AUTHORISED + b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
    AUTHORISED + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
    AUTHORISED + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000])
def test_bad_http_is_refused_and_the_connection_closed(ready: Worker, data: bytes) -> None:
    assert raw(ready, data).startswith(b"HTTP/1.1 400 ")
    assert ready.ping()["status"] == "ready"


def test_bodies_that_are_too_large(ready: Worker) -> None:
    status, _ = ready.call("POST", "/execute", b" " * (65 << 20))
    assert status == 413


def test_keep_alive_and_requests_one_behind_the_other(ready: Worker) -> None:
    ping = b"GET /ping HTTP/1.1\r\n\r\n"
    assert raw(ready, ping * 3).count(b"HTTP/1.1 200 OK") == 3
    connection = Connection(ready.path)
    for _ in range(5):
        assert ready.run({"seconds": 0}, connection)["success"]
    connection.close()


def test_refusals_keep_the_connection(ready: Worker) -> None:
    connection = Connection(ready.path)
    headers = {"Authorization": f"Bearer {SECRET}"}
    for change in ({"function_id": "x"}, {}, {"function_version": 9}, {}):
        connection.request("POST", "/execute", json.dumps(ready.order(**change)), headers)
        response = connection.getresponse()
        assert response.status == (409 if change else 200)
        response.read()
    connection.close()


def test_expect_continue(ready: Worker) -> None:
    body = json.dumps(ready.order()).encode()
    got = raw(ready, AUTHORISED + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n%s"
              % (len(body), body))
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


def test_tcp() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "qinling_exec.runtime", "--listen", f"127.0.0.1:{port}"],
        env={"QINLING_RUNTIME_SECRET": SECRET}, stderr=subprocess.DEVNULL)
    try:
        def ping() -> bytes:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as client:
                    client.sendall(b"GET /ping HTTP/1.1\r\n\r\n")
                    return client.recv(100)
            except OSError:
                return b""
        answer = processes.wait_for(ping, 5)
        assert isinstance(answer, bytes) and answer.startswith(b"HTTP/1.1 200 OK")
    finally:
        process.terminate()
        assert process.wait(5) == 0


def test_no_secret_no_worker_on_a_unix_socket() -> None:
    """Who starts it there can give it one; a pod may get it later (test_secret)."""
    ended = subprocess.run(
        [sys.executable, "-m", "qinling_exec.runtime", "--listen", "unix:/nowhere/sock"], env={},
        capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert "QINLING_RUNTIME_SECRET" in ended.stderr


def test_logs_of_the_worker_tell_no_input_output_or_secret(fresh: Worker) -> None:
    fresh.specialize("def main(word):\n    print('printed ' + word)\n    raise ValueError(word)")
    fresh.run({"word": "confidential"})
    fresh.run({"word": "confidential"}, timeout=0.001)
    logged = fresh.stderr.read_text()
    assert "listening" in logged
    for word in ("confidential", "printed", SECRET):
        assert word not in logged


def test_input_nested_deeper_than_it_can_be_handed_on() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]

    async def make() -> None:
        with pytest.raises(ValueError, match="deep"):
            Run({"execution_id": "e", "timeout": 1, "input": deep}, {"log_size": 1}, print)

    asyncio.run(make())
