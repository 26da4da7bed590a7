# SPDX-License-Identifier: Apache-2.0
"""What processes tell each other, so that nobody has to look all the time.

A message is heard at once in its own process, and on PostgreSQL in all others. Elsewhere they
find out by looking at the database; nobody relies on a message.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Set

from qinling_exec.db.channel import Channel
from qinling_exec.db.engine import Database

#: Work was queued, or a table has something to do for an engine.
QUEUE = "queue"
#: An execution ended that another process may wait for; the payload is its id.
ENDED = "ended"
#: An execution is to be cancelled by whoever runs it; the payload is its id.
CANCEL = "cancel"

#: Between looks while something happens, and at the most, in seconds.
BUSY_SECONDS, IDLE_SECONDS = 0.05, 1.0
#: How much longer each look without a find waits.
_SLOWER = 1.25
#: Looks that may find nothing before the pauses grow.
_PATIENT_LOOKS = 20


class Wakeup:
    """A bell: rung by whoever queued work, heard by the loop that does it.

    :param alone: no other process uses the database, so nothing happens unheard.
    """

    def __init__(self, database: Database | None = None, *, alone: bool = False) -> None:
        self._event = threading.Event()
        self._urgent = threading.Event()
        #: Projects whose work is not urgent: others of theirs wait already.
        self.crowd: Set[str] = frozenset()
        self._alone = alone
        self._listeners: dict[str, list[Callable[[str], object]]] = defaultdict(list)
        self._channel = None if alone or database is None else Channel.of(database, self._hear)

    def start(self) -> None:
        """Begin to hear other processes, where the database passes messages on."""
        if self._channel is not None:
            self._channel.start()

    def stop(self) -> None:
        """Hear other processes no longer."""
        if self._channel is not None:
            self._channel.stop()

    @property
    def prompt(self) -> bool:
        """True when whatever happens is heard at once: looks are only for what got lost."""
        return self._alone or (self._channel is not None and self._channel.up)

    def listen(self, topic: str, callback: Callable[[str], object]) -> None:
        """Have something called with each message's payload; it must return quickly."""
        self._listeners[topic].append(callback)

    def send(self, topic: str, payload: str = "") -> None:
        """Send a message, to be called after the commit of what it is about.

        Other processes get it from a thread: it costs the caller nothing, and many at once cost
        the database one transaction.
        """
        self._hear(topic, payload)
        if self._channel is not None:
            self._channel.send(topic, payload)

    def ring(self, project_id: str = "") -> None:
        """Wake the engines, now or at their next wait. :param project_id: whose work it is."""
        self.send(QUEUE, project_id)

    def wake(self) -> None:
        """Wake the engine of this process alone, which may finish its rest."""
        self._event.set()

    def wait(self, seconds: float, rest: float = 0.0) -> bool:
        """Wait to be woken, ``seconds`` at the most; tell whether the bell rang.

        :param rest: seconds in which only what is urgent wakes.
        """
        rang = (rest > 0 and self._urgent.wait(rest)) or self._event.wait(max(0.0, seconds - rest))
        self._event.clear()
        self._urgent.clear()
        return rang

    def _hear(self, topic: str, payload: str) -> None:
        if topic == QUEUE:
            self._event.set()
            if payload not in self.crowd:
                self._urgent.set()
        for callback in self._listeners.get(topic, ()):
            callback(payload)


class Pace:
    """How long to wait between looks at the database: short while there is something to find."""

    shortest = BUSY_SECONDS

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._empty = _PATIENT_LOOKS
        self._pause = IDLE_SECONDS

    def after(self, found: bool) -> float:
        """Return the next pause. :param found: whether the last look found something to do."""
        if found:
            self._empty, self._pause = 0, BUSY_SECONDS
            return self._pause
        if self._wakeup.prompt:
            return IDLE_SECONDS
        self._empty += 1
        if self._empty > _PATIENT_LOOKS:
            self._pause = min(IDLE_SECONDS, self._pause * _SLOWER)
        return self._pause
