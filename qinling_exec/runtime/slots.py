# SPDX-License-Identifier: Apache-2.0
"""The server's side of a keeper: a slot, in which one run after the other is made and begun."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import Any, Callable

from qinling_exec.runtime import system

#: How long a keeper has to end a run before it is killed itself.
_KILL_SECONDS = 2.0


class Channel:
    """The server's ends of a run's descriptors."""

    def __init__(self) -> None:
        self.log, log_end = os.pipe()
        self.result, result_end = os.pipe()
        self._begin_end, self._begin = os.pipe()
        self._order = os.memfd_create("order")
        for number in (self.log, self.result):
            os.set_blocking(number, False)
        #: What the run gets; closed here as soon as it was sent.
        self.ends = [self._order, log_end, result_end, self._begin_end]

    def begin(self, order: bytes) -> None:
        """Let the run begin."""
        os.pwrite(self._order, order, 0)
        os.write(self._begin, b"B")

    def sent(self) -> None:
        """Close what only the run needs."""
        for number in self.ends[1:3]:
            os.close(number)

    def withdraw(self) -> bool:
        """Take the order back; False when the run has begun.

        Either the run gets the one byte in the pipe or this does.
        """
        other = os.open(f"/proc/self/fd/{self._begin_end}", os.O_RDONLY | os.O_NONBLOCK)
        try:
            return bool(os.read(other, 1))
        except BlockingIOError:
            return False
        finally:
            os.close(other)

    def close(self) -> None:
        """Close everything."""
        for number in (self.log, self.result, self._begin, self._begin_end, self._order):
            os.close(number)


class Slot:
    """A keeper, and the run that it has made ready or that is going on.

    :param zygote: the socket of the zygote, which forks the keeper.
    :param on_loss: called when the keeper ended while no run was going on.
    :raises OSError: the zygote is gone.
    """

    def __init__(self, zygote: socket.socket, on_loss: Callable[[Slot], None]) -> None:
        self.pid: int | None = None
        self.alive = True
        self._loop = asyncio.get_running_loop()
        self._on_loss = on_loss
        self._on_end: Callable[[dict[str, Any] | None], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._channel: Channel | None = None
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        try:
            socket.send_fds(zygote, [b"keeper"], [theirs.fileno()])
            self._loop.add_reader(self._control, self._read)
        except OSError:
            self._control.close()
            raise
        finally:
            theirs.close()
        self.prepare()

    def prepare(self) -> None:
        """Have the next run made, ready to begin, unless it is or one is going on."""
        if not self.alive or self._channel is not None or self._on_end is not None:
            return
        self._channel = Channel()
        try:
            socket.send_fds(self._control, [b"run"], self._channel.ends)
        except OSError:
            self._lose()
        finally:
            if self._channel is not None:
                self._channel.sent()

    def begin(self, order: bytes,
              on_end: Callable[[dict[str, Any] | None], None]) -> Channel | None:
        """Begin the run that is ready, or that is made now.

        :param on_end: takes the keeper's word when the run and all it started have ended; None
            when the keeper was lost.
        :returns: its channel, which the caller closes; None when the run was lost.
        """
        self.prepare()  # where the end of the last run is so near that nobody has done it yet
        channel = self._channel
        if channel is None:
            return None
        channel.begin(order)
        self._channel = None
        self._on_end = on_end
        return channel

    def kill(self) -> None:
        """End the run that is going on."""
        with contextlib.suppress(OSError):
            self._control.send(b"K")
        if self._timer is None:
            self._timer = self._loop.call_later(_KILL_SECONDS, self._kill_keeper)

    def close(self) -> None:
        """Let the keeper go; it ends what it has."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._control)
            self._control.close()
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _kill_keeper(self) -> None:
        """A run may have stopped its keeper, where it can see it."""
        if self.pid is not None and self._on_end is not None:
            for pid in (*system.descendants(self.pid), self.pid):
                system.kill(pid)

    def _read(self) -> None:
        try:
            message = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if message.isdigit():
            self.pid = int(message)
        elif message and self._on_end is not None:
            word = json.loads(message)
            if word["last"]:
                self.close()
            self._end(word)
        else:
            self._lose()

    def _lose(self) -> None:
        self.close()
        if self._on_end is not None:
            self._end(None)
        else:
            self._on_loss(self)

    def _end(self, word: dict[str, Any] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        on_end, self._on_end = self._on_end, None
        assert on_end is not None
        on_end(word)
