# SPDX-License-Identifier: Apache-2.0
"""Workers that an engine starts and the cluster has no room for: they wait until some make way."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection


class Crowding:
    """What the threads that start workers and the engine's plan tell each other.

    :param seconds: for which a worker waits when nobody is there that could make way.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        #: Since when each has waited in vain.
        self._waiting: dict[str, float] = {}
        #: Those that nobody can make way for.
        self._apart: set[str] = set()
        self._unwanted: set[str] = set()
        self._closed = False

    def waits(self, name: str, moves: bool | None) -> bool:
        """Note that there is no room for a worker; tell whether it is to wait for some.

        :param moves: some will come by itself; None: what others have is of no use.
        """
        now = time.monotonic()
        with self._lock:
            since = now if moves else self._waiting.get(name, now)
            self._waiting[name] = since
            (self._apart.add if moves is None else self._apart.discard)(name)
            if self._closed:
                self._unwanted.add(name)
            return name not in self._unwanted and now - since < self._seconds

    def names(self) -> set[str]:
        """Return those that wait for others to make way."""
        with self._lock:
            return self._waiting.keys() - self._apart

    def everyone(self) -> set[str]:
        """Return all that have no place, those too that nobody can make way for."""
        with self._lock:
            return set(self._waiting)

    def moves(self) -> None:
        """Note that others have room which they will give back: nobody waits in vain."""
        now = time.monotonic()
        with self._lock:
            self._waiting |= dict.fromkeys(self._waiting.keys() - self._apart, now)

    def give_up(self, names: Collection[str]) -> None:
        """Let some wait no longer: nothing needs them any more."""
        with self._lock:
            self._unwanted |= self._waiting.keys() & names

    def end(self, name: str) -> bool:
        """Forget one that waits no longer; tell whether it was given up."""
        with self._lock:
            self._waiting.pop(name, None)
            self._apart.discard(name)
            unwanted = name in self._unwanted
            self._unwanted.discard(name)
            return unwanted

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._lock:
            self._closed = True
            self._unwanted |= self._waiting.keys()
