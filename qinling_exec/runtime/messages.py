# SPDX-License-Identifier: Apache-2.0
"""HTTP as far as the worker protocol needs it: strict, with keep-alive."""

from __future__ import annotations

import asyncio
import json
import string
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Callable

#: The longest head of a request.
LIMIT = 64 * 1024
_CHUNK = 256 * 1024
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
            405: "Method Not Allowed", 409: "Conflict", 413: "Content Too Large",
            429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class Refused(Exception):
    """The request can't be served; carries the status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Reader(asyncio.StreamReader):
    """A stream of requests that tells when the client goes away."""

    on_gone: Callable[[], None] | None = None

    def feed_eof(self) -> None:
        """Take note of the end of the stream."""
        super().feed_eof()
        self._gone()

    def set_exception(self, exc: Exception) -> None:
        """Take note of a broken connection."""
        super().set_exception(exc)
        self._gone()

    def _gone(self) -> None:
        if self.on_gone is not None:
            self.on_gone()


@dataclass
class Request:
    """A request's head; its body is read with :meth:`body` or :meth:`stream`."""

    method: str
    path: str
    headers: dict[str, str]
    reader: Reader
    writer: asyncio.StreamWriter
    unread: bool

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        if self.headers.get("expect", "").lower() == "100-continue" and self.unread:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "transfer-encoding" in self.headers:
            while True:
                line = await self._line()
                size = _number(line.split(b";")[0].strip(), 16)
                async for data in self._exactly(size):
                    yield data
                if size == 0:
                    break
                if await self._line():
                    raise Refused(400, "A chunk of the body is longer than it says.")
            while await self._line():
                pass  # trailers
        else:
            async for data in self._exactly(
                    _number(self.headers.get("content-length", "0").encode(), 10)):
                yield data
        self.unread = False

    async def body(self, most: int) -> bytes:
        """Return the body.

        :raises Refused: it is longer than ``most`` bytes.
        """
        parts, size = [], 0
        async for data in self.stream():
            size += len(data)
            if size > most:
                raise Refused(413, "The body is too large.")
            parts.append(data)
        return b"".join(parts)

    async def _line(self) -> bytes:
        try:
            return (await self.reader.readuntil(b"\n")).strip()
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the request ended early") from error
        except asyncio.LimitOverrunError as error:
            raise Refused(400, "A line of the body is too long.") from error

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            data = await self.reader.read(min(size, _CHUNK))
            if not data:
                raise ConnectionError("the request ended early")
            size -= len(data)
            yield data


def _number(text: bytes, base: int) -> int:
    digits = (string.hexdigits if base == 16 else string.digits).encode()
    if not text or text.strip(digits) or len(text) > 15:
        raise Refused(400, "The length of the body is not a number.")
    return int(text, base)


async def read_request(reader: Reader, writer: asyncio.StreamWriter) -> Request | None:
    """Return the next request of a connection, None when the client has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise Refused(400, "The head of the request is too large.") from error
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise Refused(400, "The request line is not valid; HTTP/1.1 is spoken here.")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or name.lower() in headers:
            raise Refused(400, "A header is not valid, or there twice.")
        headers[name.lower()] = value.strip()
    chunked = "transfer-encoding" in headers
    if chunked and (headers["transfer-encoding"].lower() != "chunked"
                    or "content-length" in headers):
        raise Refused(400, "The length of the body is not clear.")
    unread = chunked or headers.get("content-length", "0") != "0"
    return Request(parts[0], parts[1].split("?")[0], headers, reader, writer, unread)


def reply(writer: asyncio.StreamWriter, code: int, content: dict[str, Any],
          last: bool = False) -> None:
    """Answer with JSON.

    :param last: the connection is closed afterwards.
    """
    body = json.dumps(content).encode()
    writer.write(b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s"
                 b"\r\n%s" % (code, _REASONS[code].encode(), len(body),
                              b"Connection: close\r\n" if last else b"", body))


class Stream:
    """An answer that comes in frames: type, length, payload."""

    def __init__(self, writer: asyncio.StreamWriter, content_type: str) -> None:
        self._writer = writer
        # Sent with the first frame: one packet less.
        self._head = (b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
                      % content_type.encode())

    def send(self, kind: bytes, payload: bytes, last: bool = False) -> None:
        """Send a frame."""
        self._writer.write(b"%s%x\r\n%s%s%s\r\n%s" % (
            self._head, len(payload) + 5, kind, len(payload).to_bytes(4, "big"), payload,
            b"0\r\n\r\n" if last else b""))
        self._head = b""
