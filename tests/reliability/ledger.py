# SPDX-License-Identifier: Apache-2.0
"""A ledger of runs, written by the functions themselves, that the service knows nothing of."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Entry:
    """One run as it was seen; times are of the monotonic clock, None is: not seen.

    start: when the function said that it starts.
    end: when it said that it has done its work.
    gone: when the last process of the run was gone.
    """

    execution_id: str
    attempt: int
    start: float
    end: float | None = None
    gone: float | None = None
    #: Runs of the same execution that were there when this one started.
    beside: list[int] = field(default_factory=list)


@dataclass
class _Link:
    """One connection; it speaks for one run."""

    socket: socket.socket
    text: bytes = b""
    entry: Entry | None = None


class Ledger:
    """Listens on a port of its own and remembers everything in order.

    :param host: address of this machine at which functions find it.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self._lock = threading.Condition()
        self._entries: list[Entry] = []
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server((host, 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._end = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="ledger", daemon=True)
        self._thread.start()

    def entries(self, execution_id: str | None = None) -> list[Entry]:
        """Return what was seen, in the order of the starts."""
        with self._lock:
            return [entry for entry in self._entries
                    if execution_id in (None, entry.execution_id)]

    def running(self) -> list[Entry]:
        """Return the runs that are there now."""
        return [entry for entry in self.entries() if entry.gone is None]

    def wait_for_starts(self, count: int, seconds: float) -> None:
        """Wait until so many runs have started."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self._entries) >= count, seconds):
                raise AssertionError(f"{len(self._entries)} of {count} runs have started")

    def wait_until_gone(self, seconds: float) -> None:
        """Wait until no run is there."""
        with self._lock:
            if not self._lock.wait_for(
                    lambda: all(entry.gone for entry in self._entries), seconds):
                raise AssertionError(f"runs that do not go: {self.running()}")

    def close(self) -> None:
        """Stop to listen."""
        self._end.close()
        self._thread.join()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _serve(self) -> None:
        with self._selector, self._listener, self._wake:
            while True:
                ready = [key for key, _ in self._selector.select()]
                if any(key.fileobj is self._wake for key in ready):
                    break
                # What arrived in one look has no order; ends go first, so that no run is
                # blamed for one that was gone before it.
                links = [key.data for key in ready if key.data is not None]
                said = [(link, self._receive(link)) for link in links]
                with self._lock:
                    for link, data in sorted(said, key=lambda item: bool(item[1])):
                        self._take(link, data)
                    self._lock.notify_all()
                if any(key.fileobj is self._listener for key in ready):
                    self._accept()
            for key in list(self._selector.get_map().values()):
                if key.data is not None:
                    key.data.socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                self._selector.register(connection, selectors.EVENT_READ, _Link(connection))

    def _receive(self, link: _Link) -> bytes:
        try:
            return link.socket.recv(4096)
        except OSError:
            return b""

    def _take(self, link: _Link, data: bytes) -> None:
        if not data:
            self._selector.unregister(link.socket)
            link.socket.close()
            if link.entry is not None:
                link.entry.gone = time.monotonic()
            return
        *lines, link.text = (link.text + data).split(b"\n")
        for line in lines:
            self._write(link, *line.decode().split())
            with contextlib.suppress(OSError):  # it was killed before it could hear this
                link.socket.sendall(b"ok\n")

    def _write(self, link: _Link, what: str, execution_id: str, attempt: str) -> None:
        if what == "end":
            assert link.entry is not None
            link.entry.end = time.monotonic()
            return
        beside = [entry.attempt for entry in self._entries
                  if entry.execution_id == execution_id and entry.gone is None]
        link.entry = Entry(execution_id, int(attempt), time.monotonic(), beside=beside)
        self._entries.append(link.entry)
