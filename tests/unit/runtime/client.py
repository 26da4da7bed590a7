# SPDX-License-Identifier: Apache-2.0
"""A client that speaks the worker protocol, to any worker."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import itertools
import json
import socket
import struct
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from typing import Any

SECRET = "a secret of the test"
SIZE = 32 << 20
STREAM = "application/vnd.qinling.run"


def package(files: dict[str, str] | str) -> bytes:
    """Return a zip; a text alone is its main.py."""
    if isinstance(files, str):
        files = {"main.py": files}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, text in files.items():
            target.writestr(name, textwrap.dedent(text))
    return buffer.getvalue()


class Connection(http.client.HTTPConnection):
    """HTTP over the worker's Unix socket, or to ``host:port``."""

    def __init__(self, path: str, timeout: float = 30.0) -> None:
        host, _, port = path.rpartition(":")
        super().__init__(host or "worker", int(port) if host else None, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        if self.port != http.client.HTTP_PORT:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Answer(dict[str, Any]):
    """A run's result; its log in bytes is beside it."""

    log: bytes = b""

    @property
    def text(self) -> str:
        return self.log.decode()


class Client:
    """What tests ask of a worker.

    :param path: of its Unix socket, or ``host:port``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._ids = itertools.count(1)

    def call(self, method: str, path: str, body: Any = None,
             headers: dict[str, str] | None = None, secret: str = SECRET
             ) -> tuple[int, dict[str, Any]]:
        """Make a request on a connection of its own; return status and JSON."""
        connection = Connection(self.path)
        with contextlib.closing(connection):
            connection.request(method, path, body,
                               {"Authorization": f"Bearer {secret}", **(headers or {})})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def ping(self) -> dict[str, Any]:
        return self.call("GET", "/ping")[1]

    def offer(self, data: bytes, **spec: Any) -> tuple[int, dict[str, Any]]:
        """Push a package; return what the worker said."""
        whole = {"function_id": "f", "function_version": 0, "entry": "main.main",
                 "sha256": hashlib.sha256(data).hexdigest(), "memory_size": SIZE, **spec}
        return self.call("POST", "/specialize", data, {
            "Content-Type": "application/zip", "X-Worker-Spec": json.dumps(whole)})

    def specialize(self, files: dict[str, str] | str, **spec: Any) -> None:
        status, answer = self.offer(package(files), **spec)
        assert (status, answer) == (200, {"status": "ready"})

    def order(self, given: Any = None, timeout: float = 5.0, **more: Any) -> dict[str, Any]:
        return {"execution_id": f"e{next(self._ids)}", "attempt": 1, "function_id": "f",
                "function_version": 0, "input": given, "timeout": timeout, "request_id": "req-1",
                **more}

    def begin(self, given: Any = None, connection: Connection | None = None, **more: Any
              ) -> Connection:
        """Start a streamed run, without waiting for any answer."""
        connection = connection or Connection(self.path)
        connection.request("POST", "/execute", json.dumps(self.order(given, **more)),
                           {"Authorization": f"Bearer {SECRET}", "Accept": STREAM})
        return connection

    def run(self, given: Any = None, connection: Connection | None = None,
            **more: Any) -> Answer:
        """Run to the end, streamed; close the connection unless it was given."""
        used = self.begin(given, connection, **more)
        try:
            response = used.getresponse()
            assert response.status == 200, response.read()
            answer = Answer()
            for kind, payload in frames(response):
                if kind == b"L":
                    answer.log += payload
                else:
                    answer.update(json.loads(payload))
            response.read()
            assert answer, "the stream ended without a result"
            return answer
        finally:
            if connection is None:
                used.close()

    def background(self, given: Any = None, **more: Any) -> tuple[threading.Thread, Answer]:
        """Run in a thread; the answer is filled when it has ended."""
        answer = Answer()

        def work() -> None:
            got = self.run(given, **more)
            answer.log = got.log
            answer.update(got)

        thread = threading.Thread(target=work)
        thread.start()
        return thread, answer


def frames(response: http.client.HTTPResponse) -> Iterator[tuple[bytes, bytes]]:
    """Yield the frames of a streamed run up to the result."""
    while True:
        head = response.read(5)
        if len(head) < 5:
            return
        kind, size = struct.unpack(">cI", head)
        yield kind, response.read(size)
        if kind == b"R":
            return
