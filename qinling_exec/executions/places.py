# SPDX-License-Identifier: Apache-2.0
"""Places for callers that wait: so many threads may be held by them and no more."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator

from qinling_exec import exceptions

#: A caller stands in line only when it can expect a place within so many seconds.
_PATIENCE = 0.25
#: A line is short when it is this part of the places.
_SHORT = 8
#: A caller goes away after so many seconds, whatever was expected.
_LONGEST = 1.0


class Places:
    """Counts the calls of this process that hold a thread until an execution has ended.

    :param limit: of them at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._free = threading.Condition(self._lock)
        self._taken = 0
        self._line = 0
        self._full_since = 0.0
        #: When the last places came free: how fast the line moves.
        self._released: deque[float] = deque(maxlen=limit)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place; where all are taken and come free quickly, stand in line first.

        :raises qinling_exec.exceptions.Unavailable: none can be had.
        """
        with self._lock:
            if self._taken >= self.limit:
                self._stand_in_line()
            self._take()
        try:
            yield
        finally:
            self.give_back()

    def try_one(self) -> bool:
        """Take a place if there is one; it must be given back."""
        with self._lock:
            if self._taken >= self.limit:
                return False
            self._take()
            return True

    def give_back(self) -> None:
        """Return a place."""
        with self._lock:
            self._taken -= 1
            self._released.append(time.monotonic())
            if self._line:
                self._free.notify()

    def _take(self) -> None:
        self._taken += 1
        if self._taken == self.limit:
            self._full_since = time.monotonic()

    def _stand_in_line(self) -> None:
        if not self._moves():
            raise self._refusal()
        self._line += 1
        try:
            if not self._free.wait_for(lambda: self._taken < self.limit, _LONGEST):
                raise self._refusal()
        finally:
            self._line -= 1

    def _moves(self) -> bool:
        """Tell whether a caller can expect a place soon.

        Either as many places as the line needs came free just now; or all were taken only just
        now, so that nobody knows yet, and the line is short.
        """
        needed, recent = self._line + 1, time.monotonic() - _PATIENCE
        if len(self._released) >= needed and self._released[-needed] > recent:
            return True
        return self._full_since > recent and needed <= self.limit // _SHORT

    def _refusal(self) -> exceptions.Unavailable:
        return exceptions.Unavailable(
            f"Synchronous executions hold all {self.limit} places that this process has for them."
            " Try again later, or send sync = false and look at the execution until it has ended."
        )
