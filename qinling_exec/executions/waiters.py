# SPDX-License-Identifier: Apache-2.0
"""Synchronous callers that wait for an execution to end."""

from __future__ import annotations

import threading


class Waiters:
    """Wakes the callers of this process; those of others look at the database now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, threading.Event] = {}

    def expect(self, execution_id: str) -> threading.Event:
        """Return an event that is set when the execution ends in this process."""
        with self._lock:
            return self._events.setdefault(execution_id, threading.Event())

    def forget(self, execution_id: str) -> None:
        """Expect an execution no longer."""
        with self._lock:
            self._events.pop(execution_id, None)

    def ended(self, execution_id: str) -> None:
        """Wake who waits for an execution."""
        with self._lock:
            event = self._events.get(execution_id)
        if event is not None:
            event.set()
