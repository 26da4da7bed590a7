# SPDX-License-Identifier: Apache-2.0
"""One client that reads a log as it is printed, over a socket that is the service's own."""

from __future__ import annotations

import itertools
import socket
import time
from collections import deque
from dataclasses import dataclass

#: Buffers that one call sends.
_TOGETHER = 32


@dataclass
class Follow:
    """Which bytes of which log a client wants.

    :param place: where to go on; a piece of the log begins there.
    :param left: bytes that are wanted from there on, None: all.
    :param begin: bytes before that place that are wanted too.
    """

    execution_id: str
    place: int
    left: int | None
    begin: bytes = b""


class Follower:
    """Sends a log as HTTP, in chunks, without ever waiting.

    What could not be sent yet is kept, and nothing more is asked for until it is gone: a client
    that does not read costs one piece of log and no time.

    :param head: the reply's status line and headers.
    :param chunked: the client knows the chunked transfer coding.
    """

    def __init__(self, client: socket.socket, follow: Follow, head: bytes, chunked: bool) -> None:
        client.setblocking(False)
        self.socket = client
        self.execution_id = follow.execution_id
        self.place = follow.place
        self._left = follow.left
        self._chunked = chunked
        self._out: deque[memoryview] = deque([memoryview(head)])
        self._moved = time.monotonic()
        #: All has been handed over; the connection is closed when it is sent.
        self.ended = False
        if follow.begin:
            self._put(follow.begin)
        if follow.left == 0:
            self.end()

    @property
    def hungry(self) -> bool:
        """True when more of the log is wanted."""
        return not self._out and not self.ended

    @property
    def sending(self) -> bool:
        """True while there is something that could not be sent yet."""
        return bool(self._out)

    def stalled(self, seconds: float) -> bool:
        """Tell whether the client has taken nothing for so long of what there is for it."""
        return bool(self._out) and time.monotonic() - self._moved > seconds

    def feed(self, pieces: list[bytes]) -> None:
        """Take pieces of the log that follow each other and begin at the follower's place."""
        for piece in pieces:
            self.place += len(piece)
            wanted = piece if self._left is None else piece[: self._left]
            if self._left is not None:
                self._left -= len(wanted)
            if wanted:
                self._put(wanted)
        if self._left == 0:
            self.end()

    def end(self) -> None:
        """There is nothing more to come."""
        if not self.ended and self._chunked:
            self._out.append(memoryview(b"0\r\n\r\n"))
        self.ended = True

    def send(self) -> bool:
        """Send what can be sent now; tell whether the connection is still of use.

        :raises OSError: the client is gone.
        """
        while self._out:
            try:
                sent = self.socket.sendmsg(list(itertools.islice(self._out, _TOGETHER)))
            except (BlockingIOError, InterruptedError):
                return True
            self._moved = time.monotonic()
            while self._out and sent >= len(self._out[0]):
                sent -= len(self._out.popleft())
            if sent:
                self._out[0] = self._out[0][sent:]
        return not self.ended

    def listens(self) -> bool:
        """Tell whether the client is still there; what it sends is thrown away.

        :raises OSError: the client is gone.
        """
        try:
            return bool(self.socket.recv(4096))
        except (BlockingIOError, InterruptedError):
            return True

    def _put(self, data: bytes) -> None:
        if not self._out:
            self._moved = time.monotonic()  # there was nothing to take before
        if self._chunked:
            self._out += (memoryview(b"%x\r\n" % len(data)), memoryview(data),
                          memoryview(b"\r\n"))
        else:
            self._out.append(memoryview(data))
