# SPDX-License-Identifier: Apache-2.0
"""Calls WSGI applications as a server does, with a client that may misbehave."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class Socket:
    """What a client sends; reading behind its end would block for ever on a real connection."""

    def __init__(self, data: bytes | Iterable[bytes], fails: Exception | None = None,
                 chunked: bool = False) -> None:
        self._pieces = iter([data] if isinstance(data, bytes) else data)
        self._rest = b""
        self._fails = fails
        self._chunked = chunked
        self._ended = False
        self.taken = 0

    def read(self, size: int) -> bytes:
        assert size > 0, "an unlimited read fills the memory"
        while len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        self.taken += len(data)
        if not data:
            if self._fails:
                raise self._fails
            assert not self._ended, "read again at the end"
            self._ended = True
        return data


@dataclass
class Reply:
    status: str
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.status[:3])

    @property
    def text(self) -> str:
        return str(self.json["faultstring"])

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


class Target:
    """The innermost application: remembers what reached it."""

    def __init__(self, body: bytes = b"{}", status: str = "200 OK",
                 headers: list[tuple[str, str]] | None = None,
                 error: BaseException | None = None, reads: bool = True) -> None:
        self.reached: dict[str, Any] | None = None
        self.received = b""
        self._answer = status, headers or [("Content-Type", "application/json")], body
        self._error = error
        self._reads = reads

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        self.reached = environ
        self.received = environ["wsgi.input"].read() if self._reads else b""
        if self._error is not None:
            raise self._error
        status, headers, body = self._answer
        start(status, headers)
        return [body]


def call(application: Callable[..., Iterable[bytes]], method: str = "POST",
         path: str = "/v1/executions", body: bytes = b"", kind: str | None = "application/json",
         socket: Socket | None = None, length: str | None = None, **environ: Any) -> Reply:
    """Send a request.

    :param kind: the content type.
    :param socket: what is sent, where ``body`` is not enough.
    :param length: Content-Length; that of ``body`` by default.
    """
    request = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": socket or Socket(body), "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http", "wsgi.version": (1, 0), "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False, **environ,
    }
    if kind is not None:
        request["CONTENT_TYPE"] = kind
    if "HTTP_TRANSFER_ENCODING" in environ:
        request.setdefault("wsgi.input_terminated", True)
    else:
        request["CONTENT_LENGTH"] = str(len(body)) if length is None else length
    begun: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], *_rest: Any) -> None:
        begun[:] = [status, headers]

    parts = application(request, start)
    data = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    status, headers = begun
    names = [name.lower() for name, _ in headers]
    assert len(names) == len(set(names)), headers
    return Reply(status, {name.lower(): value for name, value in headers}, data)
