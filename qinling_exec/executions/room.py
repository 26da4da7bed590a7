# SPDX-License-Identifier: Apache-2.0
"""Versions of functions whose runs found no room: when they are tried again, and how often."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass

#: Before another try, in seconds: the first time, and the longest.
_PAUSE, _LONGEST_PAUSE = 1.0, 8.0
#: Without a try for so long nobody can say that there was no room all the time.
_FORGET_SECONDS = 30.0

#: That a cluster may take to count what was given back, in seconds.
_SETTLE_SECONDS = 3.0


@dataclass
class _Refusal:
    """What is known of runs that found no room.

    :param since: when there was still hope for some, or the first found none.
    :param last: when the last one found none, and why.
    :param pause: seconds before the next try.
    :param until: no try before.
    :param in_vain: all the room that others have would be too little.
    """

    since: float
    last: float
    pause: float
    until: float
    reason: str
    in_vain: bool


class Room:
    """What one engine knows of the room in the cluster; any thread may ask.

    :param seconds: without room, and without hope for some, after which it is given up.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._refused: dict[Hashable, _Refusal] = {}
        self._freed_at = -_SETTLE_SECONDS

    def most(self, key: Hashable) -> int:
        """Return how many runs may be tried now: one at a time where there was no room."""
        with self._lock:
            refusal = self._refused.get(key)
            if refusal is None:
                return sys.maxsize
            return 1 if time.monotonic() >= refusal.until else 0

    def refused(self, key: Hashable, reason: str, moves: bool | None, waited: float) -> bool:
        """Note that a run found no room; tell whether it has waited for that too long.

        :param moves: what has room now will give it back by itself; None: that would be of no
            use.
        :param waited: seconds since its execution came.
        """
        now = time.monotonic()
        with self._lock:
            self._refused = {one: refusal for one, refusal in self._refused.items()
                             if now - refusal.last < _FORGET_SECONDS}
            refusal = self._refused.setdefault(key, _Refusal(now, now, _PAUSE, now, reason, False))
            if moves:
                refusal.since = now
            if now >= refusal.until:  # else it is one of several that were tried at once
                refusal.until = now + refusal.pause
                refusal.pause = min(2 * refusal.pause, _LONGEST_PAUSE)
            refusal.last, refusal.reason, refusal.in_vain = now, reason, moves is None
            return min(waited, now - refusal.since) >= self._seconds

    def found(self, key: Hashable) -> None:
        """Note that a run found room."""
        with self._lock:
            self._refused.pop(key, None)

    @property
    def just_freed(self) -> bool:
        """True shortly after something gave room back: nobody knows yet who found it."""
        return time.monotonic() - self._freed_at < _SETTLE_SECONDS

    def freed(self) -> None:
        """Note that something gave room back: all are tried again at once."""
        self._freed_at = time.monotonic()
        with self._lock:
            for refusal in self._refused.values():
                refusal.until, refusal.pause = 0.0, _PAUSE

    def wants(self, key: Hashable) -> bool:
        """Tell whether there was no room the last time, and would be some if others made way."""
        with self._lock:
            refusal = self._refused.get(key)
            return refusal is not None and not refusal.in_vain

    def reason(self, key: Hashable) -> str:
        """Return why there was no room the last time; empty: there was."""
        with self._lock:
            refusal = self._refused.get(key)
            return refusal.reason if refusal is not None else ""
