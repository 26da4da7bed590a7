# SPDX-License-Identifier: Apache-2.0
"""A lock, or some places, that projects take in turns."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator

from oslo_context import context


class Turns:
    """A lock that goes round the projects that want it, the service's own threads as one of them.

    With ``most`` so many threads have it at once.

    A thread waits for one of each other project, and for those of its own project that came
    before: a project that writes with fifty threads makes another wait for one of these. The lock
    is handed over, so that nobody can overtake.
    """

    def __init__(self, most: int = 1) -> None:
        self._lock = threading.Lock()
        self._free = most
        #: Who waits, by project; the first project is the next.
        self._lines: OrderedDict[str, deque[threading.Lock]] = OrderedDict()

    @property
    def wanted(self) -> bool:
        """True while somebody waits for the lock, who will have it."""
        return bool(self._lines)

    def take(self, patience: float = -1) -> bool:
        """Take the lock, at once or when it is this thread's turn.

        :param patience: seconds after which the thread goes away without it; -1: never.
        :returns: whether it has the lock.
        """
        project = _project()
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            gate = threading.Lock()
            gate.acquire()
            self._lines.setdefault(project, deque()).append(gate)
        return gate.acquire(timeout=patience) or not self._leave(project, gate)

    @contextlib.contextmanager
    def one(self, patience: float) -> Iterator[None]:
        """Have the lock meanwhile; after some seconds in line go on without it."""
        taken = self.take(patience)
        try:
            yield
        finally:
            if taken:
                self.give()

    def _leave(self, project: str, gate: threading.Lock) -> bool:
        """Leave the line; tell whether that was possible: the lock may just have been given."""
        with self._lock:
            line = self._lines.get(project, deque())
            if gate not in line:
                return False
            line.remove(gate)
            if not line:
                del self._lines[project]
            return True

    def give(self) -> None:
        """Hand the lock to the next, if there is one."""
        with self._lock:
            if not self._lines:
                self._free += 1
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
