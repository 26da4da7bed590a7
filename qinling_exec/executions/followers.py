# SPDX-License-Identifier: Apache-2.0
"""Streams logs to all clients of this process that follow one, in a single thread."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import selectors
import threading
import time
from collections.abc import Iterable, Iterator

from qinling_exec import exceptions
from qinling_exec.db.engine import Database
from qinling_exec.executions import tails
from qinling_exec.executions.follower import Follow, Follower

LOG = logging.getLogger(__name__)
#: Between looks at the database while somebody follows something. What runs in this process is
#: looked at as soon as it is stored.
_LOOK_SECONDS = 0.05
#: Between looks while the database is away.
_AWAY_SECONDS = 1.0
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Followers:
    """The clients that follow logs. The thread starts with the first of them.

    :param most: clients with a socket of their own.
    :param most_threads: further ones that hold a thread of the server each.
    :param patience: seconds for which a client may take nothing of what there is for it.
    """

    def __init__(self, database: Database, most: int, most_threads: int,
                 patience: float) -> None:
        self._database = database
        self._most = most
        self._patience = patience
        self._lock = threading.Lock()
        self._new: collections.deque[Follower] = collections.deque()
        self._followed: collections.Counter[str] = collections.Counter()
        self._all: set[Follower] = set()
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._bell, _READ)
        self._next_look = 0.0
        self._away = self._stopping = False
        self._most_threads = most_threads
        self._threads = threading.BoundedSemaphore(most_threads)
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Make sure that one more can be taken.

        :raises qinling_exec.exceptions.Unavailable: there are too many.
        """
        if self._followed.total() >= self._most:
            raise _full(self._most)

    def add(self, follower: Follower) -> None:
        """Take a client over; its socket is closed at the end."""
        with self._lock:
            self._followed[follower.execution_id] += 1
            self._new.append(follower)
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._loop, name="followers", daemon=True)
                self._thread.start()
        self._ring()

    def stored(self, ids: Iterable[str]) -> None:
        """Look at once when one of some executions is followed: it has more log now."""
        if self._followed and any(name in self._followed for name in ids):
            self._next_look = 0.0
            self._ring()

    def stop(self) -> None:
        """Break all connections: the clients go on elsewhere, where they were."""
        with self._lock:
            self._stopping = True
        self._ring()
        if self._thread is not None:
            self._thread.join()
        self._selector.close()
        os.close(self._bell)

    def stream(self, follow: Follow) -> Iterator[bytes]:
        """Return a log piece by piece, for a server that keeps its sockets to itself.

        :raises qinling_exec.exceptions.Unavailable: too many threads do so already.
        """
        if not self._threads.acquire(blocking=False):
            raise _full(self._most_threads)
        return _Stream(self._pieces(follow), self._threads)

    def _pieces(self, follow: Follow) -> Iterator[bytes]:
        place, left = follow.place, follow.left
        yield follow.begin  # also when it is empty: uWSGI then sends the head of the reply
        while left != 0 and not self._stopping:
            try:
                tail = tails.look(self._database, {follow.execution_id: [place]})
            except exceptions.ServiceError:
                time.sleep(_AWAY_SECONDS)
                continue
            found = tail[follow.execution_id]
            for piece in found.behind(place):
                place += len(piece)
                yield piece if left is None else piece[:left]
                left = None if left is None else max(0, left - len(piece))
            if not found.pieces:
                if found.ended:
                    return
                if found.status is None:
                    break
                time.sleep(_LOOK_SECONDS)
        if left != 0:
            raise ConnectionResetError("The log can't be followed any more.")

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _loop(self) -> None:
        while not self._stopping:
            pause = max(0.0, self._next_look - time.monotonic()) if self._all else None
            for key, events in self._selector.select(pause):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._bell)
                elif events & _READ and not self._hears(key.data):
                    self._drop(key.data)
                else:
                    self._send(key.data)
            self._take_new()
            if self._all and time.monotonic() >= self._next_look:
                self._look()
        self._take_new()
        for follower in list(self._all):
            self._drop(follower)

    def _take_new(self) -> None:
        while self._new:
            follower = self._new.popleft()
            self._all.add(follower)
            self._selector.register(follower.socket, _READ, follower)
            self._next_look = 0.0
            self._send(follower)

    def _look(self) -> None:
        """Hand out what is new in the logs that somebody waits for."""
        began = time.monotonic()
        for stalled in [one for one in self._all if one.stalled(self._patience)]:
            self._drop(stalled)  # others may want its place; it can go on where it was
        hungry = [follower for follower in self._all if follower.hungry]
        wanted: dict[str, set[int]] = collections.defaultdict(set)
        for follower in hungry:
            wanted[follower.execution_id].add(follower.place)
        try:
            found = tails.look(self._database, wanted)
        except Exception as error:  # they stay; the next look tries again
            if not self._away:
                LOG.warning("Logs can't be followed now: %s", error)
            self._away, self._next_look = True, time.monotonic() + _AWAY_SECONDS
            return
        self._away = False
        more = False
        for follower in hungry:
            tail = found[follower.execution_id]
            if tail.status is None:  # deleted: the client notices that it has not got all
                self._drop(follower)
                continue
            pieces = tail.behind(follower.place)
            whole = sum(map(len, pieces)) < tails.WINDOW
            more |= not whole
            follower.feed(pieces)
            if tail.ended and whole:
                follower.end()
            self._send(follower)
        # Half of the time at the most is spent with looking.
        now = time.monotonic()
        self._next_look = now if more else max(began + _LOOK_SECONDS, now + (now - began))

    def _send(self, follower: Follower) -> None:
        try:
            if not follower.send():
                self._drop(follower)
                return
        except OSError:
            self._drop(follower)
            return
        self._selector.modify(follower.socket, _READ | (_WRITE if follower.sending else 0),
                              follower)

    def _hears(self, follower: Follower) -> bool:
        try:
            return follower.listens()
        except OSError:
            return False

    def _drop(self, follower: Follower) -> None:
        self._all.discard(follower)
        self._selector.unregister(follower.socket)
        follower.socket.close()
        with self._lock:
            self._followed[follower.execution_id] -= 1
            if not self._followed[follower.execution_id]:
                del self._followed[follower.execution_id]


class _Stream:
    """An iterator that gives a thread's place back when it is closed."""

    def __init__(self, pieces: Iterator[bytes], threads: threading.BoundedSemaphore) -> None:
        self._pieces = pieces
        self._threads = threads
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Let go."""
        if self._open:
            self._open = False
            self._threads.release()


def _full(most: int) -> exceptions.Unavailable:
    return exceptions.Unavailable(
        f"{most} clients follow logs through this process, which is its limit. Try again later, or"
        " read the log without follow."
    )
