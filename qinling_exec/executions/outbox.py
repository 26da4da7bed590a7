# SPDX-License-Identifier: Apache-2.0
"""What could not be written because the database was away, and is written when it is back."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from qinling_exec import exceptions

LOG = logging.getLogger(__name__)
#: Between tries while the database is away.
_PAUSE_SECONDS = 0.5
#: How long :meth:`Outbox.stop` goes on trying.
_LAST_SECONDS = 5.0


@dataclass
class _Letter:
    execution_id: str
    what: str
    size: int
    write: Callable[[], object]
    refused: bool = False


class Outbox:
    """Writes that wait for the database, in their order.

    Each checks its own fence: what another process has decided meanwhile stands. Nothing new
    is begun without a database, so there are no more of them than runs at its loss.

    :param limit: bytes of memory that they may take together.
    """

    def __init__(self, limit: int = 256 * 1024 * 1024) -> None:
        self._limit = limit
        self._lock = threading.Condition()
        self._letters: deque[_Letter] = deque()
        self._size = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin to write what comes in."""
        self._thread.start()

    def stop(self) -> None:
        """Try for some more seconds, then give up what is left."""
        with self._lock:
            self._lock.wait_for(lambda: not self._letters, _LAST_SECONDS)
            self._stop.set()
            self._lock.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_LAST_SECONDS)
        for letter in self._letters:
            LOG.error("%s could not be written.", letter.what)

    def has(self, execution_id: str) -> bool:
        """Tell whether a write about an execution waits here."""
        with self._lock:
            return any(letter.execution_id == execution_id for letter in self._letters)

    def keep(self, execution_id: str, what: str, size: int,
             write: Callable[[], object]) -> bool:
        """Keep a write about an execution until the database is there.

        :param what: for the log.
        :param size: bytes of memory that it holds.
        :returns: False when there is no room for it.
        """
        with self._lock:
            if self._size + size > self._limit:
                return False
            self._letters.append(_Letter(execution_id, what, size, write))
            self._size += size
            self._lock.notify_all()
        LOG.warning("The database is away. %s is kept and written when it is back.", what)
        return True

    def _loop(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._letters or self._stop.is_set())
                if self._stop.is_set():
                    return
                letter = self._letters[0]
            if self._deliver(letter):
                with self._lock:
                    self._letters.popleft()
                    self._size -= letter.size
                    self._lock.notify_all()
                continue
            if letter.refused:
                with self._lock:
                    self._letters.rotate(-1)
            self._stop.wait(_PAUSE_SECONDS)

    def _deliver(self, letter: _Letter) -> bool:
        """Write a letter; False: not now. One that was refused lets the others pass.

        It stays, because an execution of which nothing waits here would be begun once more.
        """
        try:
            letter.write()
        except (exceptions.Unavailable, exceptions.InsufficientStorage):
            return False
        except Exception:
            if not letter.refused:
                LOG.exception("%s could not be written; it is tried again.", letter.what)
            letter.refused = True
            return False
        return True
