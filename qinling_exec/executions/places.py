# SPDX-License-Identifier: Apache-2.0
"""Places for callers that wait: so many threads may be held by them, and no project has all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator

from qinling_exec import exceptions
from qinling_exec.executions import shares

#: A caller stands in line only when it can expect a place within so many seconds.
_PATIENCE = 0.25
#: A caller goes away after so many seconds, whatever was expected.
_LONGEST = 1.0
_ADVICE = " Try again later, or send sync = false and look at the execution until it has ended."


class Places:
    """Counts the calls of this process that hold a thread until an execution has ended.

    The last eighth of them, and one at least, is for projects below their share: whoever comes
    finds a place although one project wants all of them.

    :param limit: of them at once.
    :param line: callers that may stand in line, each with a thread of its own; those of projects
        that have their share take half of it.
    """

    def __init__(self, limit: int, line: int) -> None:
        self.limit = limit
        self._longest_line = line
        self._reserve = max(limit // shares.RESERVE, int(limit > 1))
        self._lock = threading.Lock()
        self._free = threading.Condition(self._lock)
        #: Places that each project has; none that has nothing.
        self._taken: Counter[str] = Counter()
        #: Threads that are held and need not be; one is told when a place is taken from them.
        self._lingering = 0
        self._wanted = threading.Condition(self._lock)
        self._line = 0
        self._full_since = 0.0
        #: When the last places came free: how fast the line moves.
        self._released: deque[float] = deque(maxlen=limit)

    @contextlib.contextmanager
    def one(self, project_id: str) -> Iterator[None]:
        """Hold a place; where there is none and they come free quickly, stand in line first.

        :raises qinling_exec.exceptions.TooManyRequests: none is left but for other projects.
        :raises qinling_exec.exceptions.Unavailable: none is left for anybody.
        """
        with self._lock:
            if not self._grants(project_id):
                self._stand_in_line(project_id)
            self._take(project_id)
        try:
            yield
        finally:
            self.give_back(project_id)

    def try_one(self, project_id: str) -> bool:
        """Take a place if there is one; it must be given back."""
        with self._lock:
            if not self._grants(project_id):
                return False
            self._take(project_id)
            return True

    def give_back(self, project_id: str) -> None:
        """Return a place."""
        with self._lock:
            self._taken[project_id] -= 1
            if not self._taken[project_id]:
                del self._taken[project_id]
            self._released.append(time.monotonic())
            if self._line:
                self._free.notify_all()  # it may be for some of them only

    def linger(self, seconds: float) -> float:
        """Hold a thread for some time that need not be held: as one of those that no place needs.

        Nobody is refused a place for it: it ends as soon as somebody takes that.

        :returns: seconds for which it was held.
        """
        with self._lock:
            if seconds <= 0 or self._spare() <= 0:
                return 0.0
            began = time.monotonic()
            self._lingering += 1
            try:
                self._wanted.wait_for(lambda: self._spare() < 0, seconds)
            finally:
                self._lingering -= 1
            return time.monotonic() - began

    def _spare(self) -> int:
        return self.limit - self._taken.total() - self._lingering

    def _share(self, project_id: str) -> float:
        return shares.share(self.limit, {project_id, *self._taken})

    def _grants(self, project_id: str) -> bool:
        free = self.limit - self._taken.total()
        return shares.grants(self._taken[project_id], self._share(project_id), free, self._reserve)

    def _take(self, project_id: str) -> None:
        self._taken[project_id] += 1
        if self._spare() < 0:
            self._wanted.notify()
        if not self._grants(project_id):
            self._full_since = time.monotonic()

    def _stand_in_line(self, project_id: str) -> None:
        has_its_share = self._taken[project_id] >= self._share(project_id)
        room = self._longest_line // 2 if has_its_share else self._longest_line
        if self._line >= room or not self._moves():
            raise self._refusal(project_id)
        self._line += 1
        try:
            if not self._free.wait_for(lambda: self._grants(project_id), _LONGEST):
                raise self._refusal(project_id)
        finally:
            self._line -= 1

    def _moves(self) -> bool:
        """Tell whether a caller can expect a place soon.

        Either as many places as the line needs came free just now; or all were taken only just
        now, so that nobody knows yet.
        """
        needed, recent = self._line + 1, time.monotonic() - _PATIENCE
        if len(self._released) >= needed and self._released[-needed] > recent:
            return True
        return self._full_since > recent

    def _refusal(self, project_id: str) -> exceptions.ServiceError:
        has = self._taken[project_id]
        if has >= self._share(project_id):
            return exceptions.TooManyRequests(
                f"Synchronous executions of the project hold {has} of the {self.limit} places that"
                " this process has for them, and what is left is for other projects." + _ADVICE)
        return exceptions.Unavailable(
            f"Synchronous executions hold all {self.limit} places that this process has for them."
            + _ADVICE)
