# SPDX-License-Identifier: Apache-2.0
"""How fast executions of a project are accepted while others ask for some, too."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

#: How many times as long as the processor was busy with an acceptance the project rests. With 9 a
#: synchronous execution of another one took 2.0 to 2.3 times as long as alone, with 12 1.2 to 1.8.
_REST = 12
#: Seconds of rest that a project may owe: a few executions in a row are answered at once.
_CREDIT = 0.4
#: Seconds for which a project counts that had an execution accepted.
_WINDOW = 5.0
#: Seconds that one caller rests at the most.
_LONGEST = 2.0


@dataclass
class _Sender:
    """A project that has executions accepted: when it last had, and until when it is to rest."""

    accepted: float = 0.0
    until: float = 0.0


class Rests:
    """Makes a project pause between its executions for the queue while others ask for some too.

    An interpreter does one thing at a time. A project that sends as fast as it is answered would
    have most of it, and make another that sends now and then wait for that, although the queue is
    shared. So its answers come later, and its executions begin no later. Each pays for those
    before: who leaves as much time between them by itself does not rest, nor who is alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Who had one accepted within the window, the latest at the end.
        self._senders: OrderedDict[str, _Sender] = OrderedDict()

    def accepted(self, project_id: str) -> None:
        """Note that an execution of a project was accepted."""
        now = time.monotonic()
        with self._lock:
            sender = self._senders.setdefault(project_id, _Sender())
            sender.accepted = now
            self._senders.move_to_end(project_id)
            while self._senders[oldest := next(iter(self._senders))].accepted <= now - _WINDOW:
                del self._senders[oldest]

    def rest(self, project_id: str, busy: float) -> float:
        """Return for how many seconds a project is to rest before it is answered.

        :param busy: seconds that the processor was busy with what it asked for.
        """
        now = time.monotonic()
        with self._lock:
            sender = self._senders.get(project_id)
            latest = islice(reversed(self._senders), 2)
            others = any(
                project != project_id and self._senders[project].accepted > now - _WINDOW
                for project in latest)
            if sender is None or not others:
                return 0.0
            begin = max(now - _CREDIT, sender.until)
            sender.until = min(begin + _REST * busy, now + _LONGEST)
            return max(0.0, begin - now)
