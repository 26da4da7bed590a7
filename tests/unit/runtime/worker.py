# SPDX-License-Identifier: Apache-2.0
"""A real worker process, and a client that speaks its protocol."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import qinling_exec

SECRET = "a secret of the test"
SIZE = 32 << 20
STREAM = "application/vnd.qinling.run"
_TREE = str(pathlib.Path(qinling_exec.__file__).parents[1])


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
    """HTTP over the worker's Unix socket."""

    def __init__(self, path: str, timeout: float = 30.0) -> None:
        super().__init__("worker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Answer(dict[str, Any]):
    """A run's result; its log in bytes is beside it."""

    log: bytes = b""

    @property
    def text(self) -> str:
        return self.log.decode()


class Worker:
    """One worker process.

    :param wrap: command in front of the worker's own, such as one that takes rights away.
    """

    def __init__(self, *, room: int = 3, wrap: tuple[str, ...] = (),
                 environment: dict[str, str] | None = None, parent_fd: int | None = None) -> None:
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="qw-"))
        self.directory.chmod(0o777 if wrap else 0o711)
        self.path = str(self.directory / "s")
        self.stderr = self.directory / "stderr"
        self._ids = itertools.count(1)
        command = [*wrap, sys.executable, "-m", "qinling_exec.runtime", "--listen",
                   f"unix:{self.path}", "--room", str(room), "--scratch",
                   str(self.directory / "scratch")]
        if parent_fd is not None:
            command += ["--parent-fd", str(parent_fd)]
        passed = {name: value for name, value in os.environ.items()
                  if name.startswith(("COVERAGE", "COV_"))}
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, stderr=stderr, stdin=subprocess.DEVNULL, start_new_session=True,
                pass_fds=[] if parent_fd is None else [parent_fd],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": _TREE, **passed,
                     "QINLING_RUNTIME_SECRET": SECRET, **(environment or {})})
        until = time.monotonic() + 20
        while True:
            try:
                self.ping()
                break
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.01)

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

    def stop(self) -> int:
        """End the worker; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        return self.process.returncode


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
