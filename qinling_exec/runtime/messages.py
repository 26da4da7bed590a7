# SPDX-License-Identifier: Apache-2.0
"""HTTP as far as the worker protocol needs it: strict, with keep-alive."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, AsyncIterator, Dict, Optional

_HEAD = 64 * 1024
_CHUNK = 256 * 1024
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
            405: "Method Not Allowed", 409: "Conflict", 413: "Content Too Large",
            429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class Refused(Exception):
    """The request can't be served; carries the status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Request:
    """A request's head; its body is read with :meth:`body` or :meth:`stream`."""

    method: str
    path: str
    headers: Dict[str, str]
    reader: asyncio.StreamReader
    read_whole: bool = False

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        self.read_whole = True
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                line = await self.reader.readline()
                size = _number(line.split(b";")[0].strip().decode("ascii", "replace"), 16)
                async for data in self._exactly(size):
                    yield data
                await self.reader.readline()
                if size == 0:
                    return
        async for data in self._exactly(_number(self.headers.get("content-length", "0"), 10)):
            yield data

    async def body(self, most: int) -> bytes:
        """Return the body. :raises Refused: it is longer than ``most`` bytes."""
        parts, size = [], 0
        async for data in self.stream():
            size += len(data)
            if size > most:
                raise Refused(413, "The body is too large.")
            parts.append(data)
        return b"".join(parts)

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            data = await self.reader.read(min(size, _CHUNK))
            if not data:
                raise ConnectionError("the request ended early")
            size -= len(data)
            yield data


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError as error:
        raise Refused(400, "The length of the body is not a number.") from error
    if number < 0:
        raise Refused(400, "The length of the body is negative.")
    return number


async def read_request(reader: asyncio.StreamReader) -> Optional[Request]:
    """Return the next request of a connection, None when the client has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise Refused(400, "The head of the request is too large.") from error
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, path, version = lines[0].split(" ")
    except ValueError as error:
        raise Refused(400, "The request line is not valid.") from error
    if not version.startswith("HTTP/1."):
        raise Refused(400, "HTTP/1.1 is spoken here.")
    headers = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise Refused(400, "A header is not valid.")
        headers[name.lower()] = value.strip()
    return Request(method, path.split("?")[0], headers, reader)


def reply(writer: asyncio.StreamWriter, code: int, content: Dict[str, Any]) -> None:
    """Answer with JSON."""
    body = json.dumps(content).encode()
    writer.write(b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                 % (code, _REASONS[code].encode(), len(body)) + body)


def begin_stream(writer: asyncio.StreamWriter, content_type: str) -> None:
    """Begin an answer that comes in chunks."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
                 % content_type.encode())


def send_frame(writer: asyncio.StreamWriter, kind: bytes, payload: bytes) -> None:
    """Send one frame of a run's stream: type, length, payload."""
    frame = kind + len(payload).to_bytes(4, "big") + payload
    writer.write(b"%x\r\n%s\r\n" % (len(frame), frame))


def end_stream(writer: asyncio.StreamWriter) -> None:
    """End an answer that came in chunks."""
    writer.write(b"0\r\n\r\n")


LIMIT = _HEAD
