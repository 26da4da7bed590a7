# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of the embedded service: cheroot, but for two habits.

Its own refusals are JSON here too, and a chunk of a body is read in pieces, not whole.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from typing import Any, BinaryIO

from cheroot import server, wsgi

from qinling_exec.api import handover

#: Bytes of a request's first line and headers.
_HEADERS = 64 * 1024
_LINE = 4096
_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(;[^\r\n]*)?\r\n\Z")


class Chunks:
    """A body with ``Transfer-Encoding: chunked`` (RFC 9112, section 7.1).

    ended: it was read to its end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = 0
        self.ended = False

    def read(self, size: int) -> bytes:
        """Return up to so many bytes; none at the end.

        :raises ValueError: what comes is not in chunks, or stops in the midst of one.
        """
        if not self._left and not self.ended:
            self._begin()
        data = self._stream.read(min(size, self._left, _HEADERS))
        self._left -= len(data)
        if not data and self._left:
            raise ValueError("the body ends in a chunk")
        if data and not self._left and self._stream.readline(_LINE) != b"\r\n":
            raise ValueError("a chunk is longer than it says")
        return data

    def _begin(self) -> None:
        """Read the size of the next chunk; after the last one, what trails it."""
        match = _SIZE.match(self._stream.readline(_LINE))
        if match is None:
            raise ValueError("no size of a chunk")
        self._left = int(match[1], 16)
        self.ended = not self._left
        if self.ended:
            for _ in range(100):
                if self._stream.readline(_LINE) in (b"\r\n", b""):
                    return
            raise ValueError("too much behind the last chunk")


class _Gateway(wsgi.Gateway_10):
    def __init__(self, req: Any) -> None:
        if req.chunked_read:
            req.rfile = Chunks(req.conn.rfile)
        super().__init__(req)
        # The application may take the connection over.
        self.env[handover.SOCKET] = req.conn.socket
        self.env[handover.LET_GO] = self._let_go

    def _let_go(self) -> None:
        """Write nothing: the application answers itself."""
        self.req.sent_headers = self.req.close_connection = True

    def respond(self) -> None:
        """Answer a request; what is left of a broken body is no next request."""
        if not self.req.inheaders.get(b"Content-Length", b"0").isdigit():
            self.req.close_connection = True  # it is refused, and nobody knows where it ends
        super().respond()
        if self.req.chunked_read and not self.req.rfile.ended:
            self.req.close_connection = True


class _Request(server.HTTPRequest):
    """A request; what never reaches the application is refused as the application does."""

    def simple_response(self, status: str | int, msg: str = "") -> None:
        """Refuse a request that is no HTTP, or is too long."""
        status = str(status)
        code, _, reason = status.partition(" ")
        body = json.dumps({
            "faultcode": "Client" if code < "500" else "Server",
            "faultstring": msg or f"{reason}.", "debuginfo": None,
        })
        # The rest of what was sent can't be told from a next request.
        self.close_connection = True
        head = (f"{self.server.protocol} {status}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nX-Openstack-Request-Id: req-{uuid.uuid4()}\r\n"
                "Connection: close\r\n\r\n")
        with contextlib.suppress(OSError):  # nobody waits for it any more
            self.conn.wfile.write((head + body).encode("ascii", "replace"))


class _Connection(server.HTTPConnection):
    RequestHandlerClass = _Request


class Listener(wsgi.Server):
    """Serves a WSGI application.

    :param threads: requests that are handled at the same time.
    :param drain_seconds: how long requests may take to end when it is stopped.
    """

    ConnectionClass = _Connection
    max_request_header_size = _HEADERS

    def __init__(self, address: tuple[str, int], application: Any, threads: int,
                 drain_seconds: int) -> None:
        super().__init__(address, application, numthreads=threads, request_queue_size=256,
                         shutdown_timeout=drain_seconds, server_name="qinling-exec")
        self.gateway = _Gateway
