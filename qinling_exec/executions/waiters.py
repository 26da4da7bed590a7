# SPDX-License-Identifier: Apache-2.0
"""Synchronous callers that wait for an execution to end."""

from __future__ import annotations

import logging
import threading

import sqlalchemy as sa

from qinling_exec.db.engine import Database
from qinling_exec.db.wakeup import ENDED, Pace, Wakeup
from qinling_exec.executions import records

LOG = logging.getLogger(__name__)
#: Executions of one query.
_BATCH = 200
#: Between looks where messages of other processes are heard; those are only for what got lost.
_PROMPT_SECONDS = 0.5


class Waiters:
    """Wakes the callers of this process when executions end, here or in other processes.

    One thread looks for all of them, often only where other processes can't tell.
    """

    def __init__(self, database: Database, wakeup: Wakeup) -> None:
        self._database = database
        self._wakeup = wakeup
        self._pace = Pace(wakeup)
        self._lock = threading.Condition()
        self._events: dict[str, list[threading.Event]] = {}
        self._new = False
        self._stop = False
        self._thread = threading.Thread(target=self._loop, name="waiters", daemon=True)
        wakeup.listen(ENDED, self.ended)

    def start(self) -> None:
        """Begin to look for ends in other processes."""
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        with self._lock:
            self._stop = True
            self._lock.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def expect(self, execution_id: str) -> threading.Event:
        """Return an event of the caller's own that is set when the execution ends."""
        event = threading.Event()
        with self._lock:
            self._events.setdefault(execution_id, []).append(event)
            self._new = True
            self._lock.notify_all()
        return event

    def forget(self, execution_id: str, event: threading.Event) -> None:
        """Expect an execution no longer."""
        with self._lock:
            events = self._events[execution_id]
            events.remove(event)
            if not events:
                del self._events[execution_id]

    def ended(self, execution_id: str) -> None:
        """Wake who waits for an execution."""
        with self._lock:
            events = list(self._events.get(execution_id, ()))
        for event in events:
            event.set()

    def wake_all(self) -> None:
        """Wake everybody, whatever they wait for."""
        with self._lock:
            awaited = list(self._events)
        for execution_id in awaited:
            self.ended(execution_id)

    def _loop(self) -> None:
        pause = 0.0
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._events or self._stop)
                self._lock.wait_for(lambda: self._new or self._stop, pause)
                if self._stop:
                    return
                new, self._new = self._new, False
                awaited = list(self._events)
            try:
                found = self._look(awaited)
            except Exception as error:
                LOG.debug("Awaited executions can't be looked at now: %s", error)
                found = False
            pause = self._pace.after(found or new)
            if self._wakeup.prompt:
                pause = _PROMPT_SECONDS
            with self._lock:  # a caller that comes now is looked after at the next turn
                self._lock.wait_for(lambda: self._stop, min(pause, self._pace.shortest))

    def _look(self, awaited: list[str]) -> bool:
        """Wake those whose execution has ended; tell whether there were any."""
        table = records.table
        found = False
        for start in range(0, len(awaited), _BATCH):
            some = awaited[start:start + _BATCH]
            query = sa.select(table.c.id).where(table.c.id.in_(some),
                                                records.NOT_ENDED)
            with self._database.reader() as connection:
                running = set(connection.execute(query).scalars())
            for execution_id in set(some) - running:
                self.ended(execution_id)
                found = True
        return found
