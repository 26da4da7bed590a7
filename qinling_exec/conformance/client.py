# SPDX-License-Identifier: Apache-2.0
"""Speaks to a worker as the service does, and shows everything that it answers."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import secrets
import socket
from dataclasses import dataclass, field
from typing import Any

STREAM = "application/vnd.qinling.run"
_SECONDS = 30.0
_MIB = 1 << 20


@dataclass
class Outcome:
    """What came of a run."""

    result: dict[str, Any]
    log: bytes = b""


@dataclass
class Client:
    """A client of one worker.

    :param host: address of the worker.
    :param port: its TCP port.
    :param package: the zip with the functions that checks call.
    :param entry: the function in it.
    """

    host: str
    port: int
    package: bytes
    entry: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    _numbers: Any = field(default_factory=itertools.count)

    def open(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        return http.client.HTTPConnection(self.host, self.port, timeout=_SECONDS)

    def call(self, method: str, path: str, body: Any = b"", secret: str | None = None,
             **headers: str) -> tuple[int, dict[str, Any]]:
        """Make a request; return status and JSON.

        :param secret: another one than this client's; empty for none at all.
        """
        with contextlib.closing(self.open()) as connection:
            connection.request(method, path, body, self.headers(secret, **headers))
            response = connection.getresponse()
            answer = json.loads(response.read())
        if not isinstance(answer, dict):
            raise ValueError(f"{method} {path} answered no JSON object")
        return response.status, answer

    def headers(self, secret: str | None = None, **more: str) -> dict[str, str]:
        """Return the headers of a request; ``more`` has _ for the dashes."""
        secret = self.secret if secret is None else secret
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {**({"Authorization": f"Bearer {secret}"} if secret else {}), **named}

    def specialize(self, secret: str | None = None, package: bytes | None = None,
                   **spec: Any) -> tuple[int, dict[str, Any]]:
        """Push the package, or another one than was announced."""
        whole = {"function_id": "conformance", "function_version": 3, "entry": self.entry,
                 "sha256": hashlib.sha256(self.package).hexdigest(), "memory_size": 64 * _MIB,
                 "room": 2, "limits": {"log_size": 4096, "result_size": 65536}, **spec}
        return self.call("POST", "/specialize", self.package if package is None else package,
                         secret, Content_Type="application/zip", X_Worker_Spec=json.dumps(whole))

    def order(self, given: Any, timeout: float = 20.0, **more: Any) -> dict[str, Any]:
        """Return the body of /execute."""
        return {"execution_id": f"run-{next(self._numbers)}", "attempt": 1,
                "function_id": "conformance", "function_version": 3, "input": given,
                "timeout": timeout, "request_id": "req-conformance", **more}

    def begin(self, given: Any, connection: http.client.HTTPConnection | None = None,
              **more: Any) -> http.client.HTTPConnection:
        """Send a streamed run's order, without waiting for any answer."""
        connection = connection or self.open()
        connection.request("POST", "/execute", json.dumps(self.order(given, **more)),
                           self.headers(Accept=STREAM, Content_Type="application/json"))
        return connection

    def finish(self, connection: http.client.HTTPConnection) -> Outcome:
        """Read a streamed run up to its result."""
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"/execute answered {response.status}: {response.read()!r}")
        if (got := response.getheader("Content-Type")) != STREAM:
            raise ValueError(f"the stream's Content-Type is {got}")
        log = bytearray()
        while True:
            head = response.read(5)
            if len(head) < 5:
                raise ValueError("the stream ended without a result")
            payload = response.read(int.from_bytes(head[1:], "big"))
            if head[:1] == b"R":
                response.read()
                return Outcome(json.loads(payload), bytes(log))
            if head[:1] != b"L":
                raise ValueError(f"a frame of the kind {head[:1]!r}")
            log += payload

    def run(self, given: Any, **more: Any) -> Outcome:
        """Run to the end, streamed."""
        with contextlib.closing(self.begin(given, **more)) as connection:
            return self.finish(connection)

    def answers(self) -> bool:
        """Tell whether the worker can be reached and answers /ping."""
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            with socket.create_connection((self.host, self.port), 2):
                return self.call("GET", "/ping")[0] == 200
        return False
