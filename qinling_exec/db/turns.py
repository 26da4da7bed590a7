# SPDX-License-Identifier: Apache-2.0
"""A lock that projects take in turns."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

from oslo_context import context


class Turns:
    """A lock that goes round the projects that want it, the service's own threads as one of them.

    A thread waits for one of each other project, and for those of its own project that came
    before: a project that writes with fifty threads makes another wait for one of these. The lock
    is handed over, so that nobody can overtake.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = False
        #: Who waits, by project; the first project is the next.
        self._lines: OrderedDict[str, deque[threading.Lock]] = OrderedDict()

    @property
    def wanted(self) -> bool:
        """True while somebody waits for the lock, who will have it."""
        return bool(self._lines)

    def take(self) -> None:
        """Take the lock, at once or when it is this thread's turn."""
        with self._lock:
            if not self._held:
                self._held = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._lines.setdefault(_project(), deque()).append(gate)
        gate.acquire()

    def give(self) -> None:
        """Hand the lock to the next, if there is one."""
        with self._lock:
            if not self._lines:
                self._held = False
                return
            project, line = self._lines.popitem(last=False)
            gate = line.popleft()
            if line:
                self._lines[project] = line
        gate.release()


def _project() -> str:
    """Return whose work the thread does; nothing for the service's own."""
    current = context.get_current()
    return "" if current is None else current.project_id or ""
