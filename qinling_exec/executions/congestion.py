# SPDX-License-Identifier: Apache-2.0
"""How many runs an engine has at once before they only wait for each other.

Runs that mostly sleep can be many. Of short ones a few keep a processor busy: with more of them
no more end, each takes longer, and what another project sends waits behind all of them, in the
engine and in the database. So what an engine takes is measured: time beyond the functions' own.
The queue, where projects take turns, is the place to wait.
"""

from __future__ import annotations

import logging
import math
import statistics
import threading
import time

LOG = logging.getLogger(__name__)
#: Runs that an engine may have in any case. What these few take beyond their functions' time is
#: what the way costs here, with this database and these workers: it is learned anew each time.
FEWEST = 8
#: Taken for that before it is known, in seconds.
_GUESS = 0.05
#: What one judgement goes by: so many ends, and not sooner than that, in seconds.
_ENDS, _SECONDS = 8, 0.1
#: The limit falls by no more than this factor at once.
_STEEPEST = 0.5


class Congestion:
    """Limits the runs of one engine by how long they take beyond their functions' own time.

    The limit follows the gradient, as TCP Vegas and Netflix' concurrency-limits do: the time that
    a run would take without a wait, divided by what it took, with the root of the limit on top,
    so that it is always tried whether more do well.

    :param most: the limit when nothing speaks against it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._fewest = min(FEWEST, most)
        self._lock = threading.Lock()
        self._limit = float(most)
        self._usual = _GUESS
        self._ends: list[tuple[float, float]] = []
        self._since = time.monotonic()

    @property
    def limit(self) -> int:
        """How many runs the engine may have now."""
        return int(self._limit)

    def ended(self, took: float, ran: float) -> None:
        """Note that a run has ended.

        :param took: seconds from its claim until its end was written.
        :param ran: seconds that the function itself took of them.
        """
        with self._lock:
            self._ends.append((took, min(max(0.0, ran), took)))
            if len(self._ends) >= _ENDS and time.monotonic() - self._since >= _SECONDS:
                self._judge()

    def _judge(self) -> None:
        took = statistics.median(took for took, _ in self._ends)
        ran = statistics.median(ran for _, ran in self._ends)
        beyond = max(0.0, took - ran)
        if self._limit <= self._fewest:
            self._usual = beyond
        self._usual = min(self._usual, beyond)
        gradient = max(_STEEPEST, (ran + self._usual) / took) if took else 1.0
        wanted = self._limit * gradient + math.sqrt(self._limit)
        before, self._limit = self.limit, min(float(self._most),
                                              max(float(self._fewest), wanted))
        if self.limit != before:
            LOG.debug("At most %s runs at once: they take %.0f ms, their functions %.0f of it.",
                      self.limit, took * 1000, ran * 1000)
        self._ends.clear()
        self._since = time.monotonic()
