# SPDX-License-Identifier: Apache-2.0
"""How many runs this process has on each worker: a first guess of its room.

The worker itself refuses what is too much, so this may be wrong without harm.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from qinling_exec.orchestrator.workers import Worker

#: For how long a worker that refused a run, because other processes use it too, is left alone.
_FULL_SECONDS = 0.05
#: And one that could not be reached.
_SUSPECT_SECONDS = 1.0
_NOTHING: Mapping[str, int] = {}


class Slots:
    """Counts the runs that this process has on workers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._full_until: dict[str, float] = {}
        self._suspects: set[str] = set()
        #: Called when a slot comes free, while somebody waits for one.
        self.on_free: Callable[[], None] | None = None

    def borrow(self, workers: Iterable[Worker], elsewhere: Mapping[str, int] = _NOTHING,
               engine: str | None = None) -> Worker | None:
        """Take a slot on the least busy of some workers, None when all are full.

        :param elsewhere: runs that other processes have on workers, as far as that is known.
        :param engine: whose workers come first: two engines that look at the same moment would
            choose the same, and one of them for nothing.
        """
        now = time.monotonic()
        with self._lock:
            free = [
                worker for worker in workers
                if self._taken[worker.name] + elsewhere.get(worker.name, 0) < worker.room
                and self._full_until.get(worker.name, 0.0) <= now
            ]
            if not free:
                return None
            chosen = min(free, key=lambda worker: (
                engine is not None and worker.runner_id != engine,
                self._taken[worker.name] + elsewhere.get(worker.name, 0)))
            self._taken[chosen.name] += 1
            return chosen

    def free(self, workers: Iterable[Worker]) -> int:
        """Return how many more runs some workers could take."""
        with self._lock:
            return sum(max(0, worker.room - self._taken[worker.name]) for worker in workers)

    def give_back(self, worker: Worker, full: bool = False) -> None:
        """Return a slot. :param full: the worker refused the run for want of room."""
        with self._lock:
            self._taken[worker.name] -= 1
            if self._taken[worker.name] <= 0:
                del self._taken[worker.name]
            if full:
                self._full_until[worker.name] = time.monotonic() + _FULL_SECONDS
        on_free = self.on_free
        if on_free is not None:
            on_free()

    def suspect(self, worker: Worker) -> None:
        """Leave a worker alone that could not be reached, until the fleet has looked at it."""
        with self._lock:
            self._suspects.add(worker.name)
            self._full_until[worker.name] = time.monotonic() + _SUSPECT_SECONDS

    def suspected(self, name: str) -> bool:
        """Tell, once, whether a worker is to be looked at."""
        with self._lock:
            known = name in self._suspects
            self._suspects.discard(name)
            return known

    def busy(self, name: str) -> bool:
        """Tell whether this process has a run on a worker."""
        with self._lock:
            return self._taken[name] > 0
