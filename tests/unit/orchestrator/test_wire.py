# SPDX-License-Identifier: Apache-2.0
"""What is known about a run when the connection to its worker breaks."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qinling_exec.orchestrator.wire import Wire, WorkerLost, WorkerUnreachable
from qinling_exec.orchestrator.workers import READY, Worker

REQUEST = {"input": "x" * 1000}


def known(path: Path) -> Worker:
    return Worker("name", "function", 0, "f" * 64, READY, "runner", f"unix:{path}", 1, "secret")


def serve(path: Path, take: Callable[[socket.socket], object]) -> tuple[Worker, threading.Thread]:
    """Take one connection as a worker that ends then."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        connection, _ = listener.accept()
        listener.close()
        with connection:
            take(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return known(path), thread


def read_all(connection: socket.socket) -> None:
    received = b""
    while not received.endswith(b'"}'):
        received += connection.recv(65536)


def execute(worker: Worker) -> None:
    Wire().execute(worker, REQUEST, 5, lambda data: None)


def test_ended_with_the_request_unread_nothing_was_started(tmp_path: Path) -> None:
    worker, thread = serve(tmp_path / "s", lambda connection: connection.recv(10))
    with pytest.raises(WorkerUnreachable):
        execute(worker)
    thread.join(5)


def test_ended_with_the_request_read_the_outcome_is_not_known(tmp_path: Path) -> None:
    worker, thread = serve(tmp_path / "s", read_all)
    with pytest.raises(WorkerLost):
        execute(worker)
    thread.join(5)


def test_not_there(tmp_path: Path) -> None:
    """In words for users: records show them."""
    with pytest.raises(WorkerUnreachable, match=r"^it can't be reached$"):
        execute(known(tmp_path / "nothing"))


def test_silent(tmp_path: Path) -> None:
    ended = threading.Event()
    worker, thread = serve(tmp_path / "s", lambda connection: ended.wait(20))
    with pytest.raises(WorkerUnreachable, match=r"^it did not answer in time$"):
        Wire().specialize(worker, io.BytesIO(b"x"), 1, {}, 0.2)
    ended.set()
    thread.join(5)


def test_a_local_worker_is_gone_when_nobody_holds_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    worker = known(path)
    assert Wire().is_gone(worker)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert not Wire().is_gone(worker)  # it may hang, and is there
    assert Wire().is_gone(worker)
    elsewhere = replace(worker, address="127.0.0.1:1")
    assert not Wire().is_gone(elsewhere)  # nobody knows, from here
