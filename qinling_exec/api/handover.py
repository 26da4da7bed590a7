# SPDX-License-Identifier: Apache-2.0
"""Takes connections over from the WSGI server, for replies that go on for long.

A thread of the server would be held by each client that follows a log. Where the server shows
its socket (gunicorn's gthread, and the embedded service), the connection goes to the one thread
that serves all followers, and the server's thread is free at once.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from typing import Any

from qinling_exec.executions.follower import Follow, Follower
from qinling_exec.executions.followers import Followers

#: A :class:`Follow` here in the environment asks for the hand-over of its reply.
KEY = "qinling_exec.follow"
#: Where the embedded service shows its socket, and a function that ends its part of the reply.
SOCKET, LET_GO = "qinling_exec.socket", "qinling_exec.let_go"
_BUFFER = 64 * 1024


class HandOver:
    """Outermost: it needs the reply's headers as they are sent."""

    def __init__(self, application: Callable[..., Iterable[bytes]], followers: Followers) -> None:
        self._application = application
        self._followers = followers

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        if "follow" not in environ.get("QUERY_STRING", ""):
            return self._application(environ, start)
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def begin(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            begun.append((status, headers))
            return start(status, headers, *rest)

        body = self._application(environ, begin)
        follow: Follow | None = environ.pop(KEY, None)
        if follow is None:
            return body
        chunked = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        client = _take(environ)
        self._followers.add(Follower(client, follow, _head(*begun[-1], chunked), chunked))
        return _gone(environ)


def possible(environ: dict[str, Any]) -> bool:
    """Tell whether the connection of a request can be taken over."""
    client = _socket(environ)
    return (isinstance(client, socket.socket) and not isinstance(client, ssl.SSLSocket)
            and environ.get("SERVER_PROTOCOL") in ("HTTP/1.0", "HTTP/1.1"))


def _socket(environ: dict[str, Any]) -> Any:
    return environ.get(SOCKET) or environ.get("gunicorn.socket")


def _take(environ: dict[str, Any]) -> socket.socket:
    """Take the client's connection away from the server.

    The server keeps its file descriptor, but what is behind it is a connection that nobody is at
    the other end of: whatever the server does with it - shut it down, drain it, close it - the
    client does not notice.
    """
    server = _socket(environ)
    client: socket.socket = server.dup()
    dead, other = socket.socketpair()
    other.close()
    os.dup2(dead.fileno(), server.fileno(), inheritable=False)
    dead.close()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # What a client that does not read may hold of the kernel's memory.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return client


def _head(status: str, headers: list[tuple[str, str]], chunked: bool) -> bytes:
    more = [("Date", formatdate(usegmt=True)), ("Connection", "close")]
    if chunked:
        more.append(("Transfer-Encoding", "chunked"))
    lines = [f"{name}: {value}" for name, value in (*headers, *more)]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def _gone(environ: dict[str, Any]) -> Iterable[bytes]:
    """Return a body that makes the server go on as after a client that has gone away."""
    let_go = environ.get(LET_GO)
    if let_go is not None:
        let_go()
        return []
    return _Broken()


class _Broken:
    """A body that ends as one whose client has gone away."""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        raise BrokenPipeError(errno.EPIPE, "The connection was taken over.")
