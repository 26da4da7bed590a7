# SPDX-License-Identifier: Apache-2.0
"""The bytes of a request's body, whatever server they come through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qinling_exec import exceptions

CHUNK = 64 * 1024


class BodyStream:
    """Reads ``wsgi.input`` up to the body's end and no further, in pieces.

    It stands in ``wsgi.input`` itself from then on.

    :param limit: bytes that any body may have.
    :raises qinling_exec.exceptions.TooLarge: the body says that it is longer.
    :raises qinling_exec.exceptions.InputError: its length is nonsense, or can't be known.
    """

    def __init__(self, environ: dict[str, Any], limit: int) -> None:
        self._stream = environ["wsgi.input"]
        self._limit = limit
        self.length = _announced(environ)
        self._taken = 0
        self.ended = self.length == 0
        if self.length is not None and self.length > limit:
            self.ended = True  # nobody is to read it
            raise too_large(limit)
        environ["wsgi.input"] = self

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, up to a chunk of them; none at the end.

        :raises qinling_exec.exceptions.TooLarge: there are more than allowed.
        :raises qinling_exec.exceptions.InputError: the client stopped half-way, or sends garbage.
        """
        if self.ended or size == 0:
            return b""
        wanted = CHUNK if size < 0 else min(size, CHUNK)
        if self.length is not None:
            wanted = min(wanted, self.length - self._taken)
        try:
            data: bytes = self._stream.read(wanted)
        except (ValueError, OSError, EOFError) as error:  # broken chunks, or the client is gone
            self.ended = True
            raise exceptions.InputError("The request body can't be read.") from error
        self._taken += len(data)
        self.ended = not data or self._taken == self.length
        if self._taken > self._limit:
            self.ended = True
            raise too_large(self._limit)
        if not data and self.length is not None:
            raise exceptions.InputError("The request body ended before its announced length.")
        return data

    def pieces(self, limit: int) -> Iterator[bytes]:
        """Yield the body in pieces.

        :param limit: bytes that this body may have.
        :raises qinling_exec.exceptions.TooLarge: it has more.
        """
        if self.length is not None and self.length > limit:
            raise too_large(limit)
        while data := self.read():
            if self._taken > limit:
                raise too_large(limit)
            yield data

    def drain(self) -> None:
        """Throw away what nobody has read, so that the client reads the reply."""
        try:
            while self.read():
                pass
        except exceptions.ServiceError:
            pass  # the reply has been made already


def of(environ: dict[str, Any], limit: int) -> BodyStream:
    """Return the body of a request; ``limit`` matters when it is the first to ask."""
    stream = environ["wsgi.input"]
    return stream if isinstance(stream, BodyStream) else BodyStream(environ, limit)


def too_large(limit: int) -> exceptions.TooLarge:
    """Return the refusal of a body over its limit."""
    return exceptions.TooLarge(f"The request body may have {limit} bytes at the most.")


def _announced(environ: dict[str, Any]) -> int | None:
    """Return the announced length, None when the body comes in chunks."""
    if environ.get("HTTP_TRANSFER_ENCODING"):
        if not environ.get("wsgi.input_terminated"):
            error = exceptions.InputError("This server takes no chunked bodies: send the body with"
                                          " a Content-Length.")
            error.code = 411
            raise error
        return None
    text = environ.get("CONTENT_LENGTH") or "0"
    if not text.isascii() or not text.isdigit():
        raise exceptions.InputError("Content-Length must be a number.")
    return int(text)
