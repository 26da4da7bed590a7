# SPDX-License-Identifier: Apache-2.0
"""What one engine runs of images just now: a thread for each, and what is to become of it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from qinling_exec.executions import states


@dataclass
class Going:
    """A run that goes on.

    :param begun: it is there, so that it can be ended.
    :param asked: somebody wants the execution to be cancelled.
    :param over: how it ended is known.
    :param left: set when this process is to look after it no more.
    """

    project_id: str
    thread: threading.Thread
    begun: bool = False
    asked: bool = False
    ending: bool = False
    over: bool = False
    left: threading.Event = field(default_factory=threading.Event)


class Goings:
    """The runs of one engine; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going: dict[states.Fence, Going] = {}
        self.stopping = False

    def by_project(self) -> Counter[str]:
        """Count the runs by project."""
        with self._lock:
            return Counter(going.project_id for going in self._going.values())

    def projects(self, attempts: set[tuple[str, int]]) -> list[str]:
        """Return whose those of some attempts are that run here, one for each."""
        with self._lock:
            return [going.project_id for fence, going in self._going.items()
                    if (fence.execution_id, fence.attempt) in attempts]

    def has(self, execution_id: str) -> bool:
        """Tell whether an execution runs here."""
        with self._lock:
            return any(fence.execution_id == execution_id for fence in self._going)

    def fences(self) -> list[states.Fence]:
        """Return what runs here and is not being ended."""
        with self._lock:
            return [fence for fence, going in self._going.items()
                    if not (going.ending or going.over or going.left.is_set())]

    def get(self, fence: states.Fence) -> Going:
        """Return a run."""
        return self._going[fence]

    def start(self, fence: states.Fence, project_id: str, thread: threading.Thread) -> None:
        """Start a run's thread."""
        with self._lock:
            self._going[fence] = Going(project_id, thread)
            if self.stopping:
                self._going[fence].left.set()
        thread.start()

    def remove(self, fence: states.Fence) -> None:
        """Forget a run."""
        with self._lock:
            del self._going[fence]

    def mark(self, fence: states.Fence, asked: bool) -> bool:
        """Note that a run is to be ended; tell whether it goes on and has to be told.

        :param asked: its execution is to be cancelled. Otherwise it is gone, or another engine's:
            this one looks after the run no more.
        """
        with self._lock:
            going = self._going.get(fence)
            if going is None or going.ending:
                return False
            going.asked = asked
            if not asked or not going.begun:
                going.left.set()
                return False
            going.ending = True
            return True

    def told(self, fence: states.Fence) -> None:
        """Note that a run was told to end; one that goes on is told again at the next look."""
        with self._lock:
            going = self._going.get(fence)
            if going is not None:
                going.ending = False

    def note_begun(self, going: Going) -> bool:
        """Let a run be ended from now on; tell whether somebody has wanted that meanwhile."""
        with self._lock:
            going.begun = True
            asked = going.asked and not self.stopping
            if asked:
                going.left.clear()
        return asked

    def leave(self, seconds: float) -> None:
        """Have every thread end and leave its run as it is.

        :param seconds: that each of them gets.
        """
        with self._lock:
            self.stopping = True
            left = list(self._going.values())
            for going in left:
                going.left.set()
        for going in left:
            going.thread.join(seconds)
