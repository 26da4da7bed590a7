# SPDX-License-Identifier: Apache-2.0
"""How fast executions of a project are accepted while others ask for some, too."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from qinling_exec.executions.places import Places

#: How many times as long as the processor was busy with an acceptance the project rests. With 9 a
#: synchronous execution of another one took 2.0 to 2.3 times as long as alone, with 12 1.5 to 1.9.
_REST = 12
#: Seconds for which a project that asked for an execution counts as one that does so.
_WINDOW = 1.0
#: Seconds that one caller rests at the most.
_LONGEST = 1.0
#: One of so many places for callers that wait is there for those who rest.
_PART = 2


@dataclass
class _Sender:
    """A project that asks for executions: when it last did, and until when it rests."""

    asked: float = 0.0
    until: float = 0.0


class Pace:
    """Makes a project pause between its executions for the queue while others ask for some too.

    An interpreter does one thing at a time. A project that sends as fast as it is answered would
    have most of it, and make another that sends now and then wait for that, although the queue is
    shared. So its answers come later, and its executions begin no later. Alone, it does not rest.

    :param places: those who rest hold one, as everybody who holds a thread and waits.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        #: Who asked within the window, the latest at the end.
        self._senders: OrderedDict[str, _Sender] = OrderedDict()
        self._resting = 0

    def asked(self, project_id: str) -> None:
        """Note that a project asks for an execution."""
        now = time.monotonic()
        with self._lock:
            sender = self._senders.setdefault(project_id, _Sender())
            sender.asked = now
            self._senders.move_to_end(project_id)
            while self._senders[oldest := next(iter(self._senders))].asked <= now - _WINDOW:
                del self._senders[oldest]

    def rest(self, project_id: str, busy: float) -> None:
        """Return when the project may go on.

        :param busy: seconds that the processor was busy with what it asked for.
        """
        if not self._places.try_one(project_id):
            return
        try:
            seconds = self._begin(project_id, busy)
            if seconds is not None:
                time.sleep(seconds)
                with self._lock:
                    self._resting -= 1
        finally:
            self._places.give_back(project_id)

    def _begin(self, project_id: str, busy: float) -> float | None:
        """Count one who rests; return for how many seconds, None: it does not."""
        now = time.monotonic()
        with self._lock:
            sender = self._senders.get(project_id)
            latest = islice(reversed(self._senders), 2)
            others = any(project != project_id and self._senders[project].asked > now - _WINDOW
                         for project in latest)
            if sender is None or not others or self._resting >= self._places.limit // _PART:
                return None
            sender.until = min(max(now, sender.until) + _REST * busy, now + _LONGEST)
            self._resting += 1
            return sender.until - now
