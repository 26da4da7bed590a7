# SPDX-License-Identifier: Apache-2.0
"""Stores what running executions print, so that a killed service loses next to nothing of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states
from qinling_exec.executions.logs import Sink

LOG = logging.getLogger(__name__)
#: Seconds in which output gathers before it is stored. With the time of the transaction and of a
#: follower's look at the database it makes what is printed visible within 200 ms.
_GATHER_SECONDS = 0.06
#: Between attempts while the database is away.
_AWAY_SECONDS = 0.5
#: Runs and bytes of one transaction.
_BATCH = 100
_BYTES = 4 * 1024 * 1024

_table = models.ExecutionLog.__table__


class Flusher:
    """Stores the output of all running executions of this process, many in one transaction.

    It sleeps while nobody prints. While the database is away the bytes are kept, as many for
    each run as its log may have.

    :param on_stored: called with the ids of executions that have more log now.
    """

    def __init__(self, database: Database,
                 on_stored: Callable[[list[str]], object] = lambda ids: None) -> None:
        self._database = database
        self._on_stored = on_stored
        self._sinks: set[Sink] = set()
        self._storing: set[Sink] = set()
        self._turn = threading.Condition()
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._away = False
        self._thread = threading.Thread(target=self._loop, name="log-flusher", daemon=True)

    def start(self) -> None:
        """Begin to flush."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the runs' last bytes are stored with their results."""
        self._stop.set()
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join()

    def add(self, sink: Sink) -> None:
        """Take a run's log into the rounds."""
        sink.on_write = self._ring
        with self._turn:
            self._sinks.add(sink)

    def remove(self, sink: Sink) -> None:
        """Leave a run's log alone from now on; returns when no transaction is at it."""
        sink.on_write = None
        with self._turn:
            self._sinks.discard(sink)
            while sink in self._storing:
                self._turn.wait()

    def _ring(self) -> None:
        if not self._bell.is_set():
            self._bell.set()

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._bell.wait()
            self._bell.clear()
            self._stop.wait(_GATHER_SECONDS)
            try:
                self.flush()
                self._away = False
            except Exception as error:  # the bytes stay; the next round tries again
                if not self._away:
                    LOG.warning("Logs of running executions can't be stored now: %s", error)
                self._away = True
                self._bell.set()
                self._stop.wait(_AWAY_SECONDS)

    def flush(self) -> None:
        """Store what is waiting now."""
        with self._turn:
            waiting = [sink for sink in self._sinks if sink.waiting]
        while waiting:
            waiting = self._flush_some(waiting)

    def _flush_some(self, waiting: list[Sink]) -> list[Sink]:
        """Store what one transaction takes; return what is left for the next one."""
        with self._turn:
            batch = [sink for sink in waiting[:_BATCH] if sink in self._sinks]
            self._storing.update(batch)
        try:
            done = self._store(batch)
        except BaseException:
            for sink in batch:
                sink.doubt()
            raise
        finally:
            with self._turn:
                self._storing.difference_update(batch)
                self._turn.notify_all()
        self._on_stored([sink.fence.execution_id for sink in done])
        left = set(waiting) - set(done)
        return [sink for sink in waiting if sink in left]

    def _store(self, batch: list[Sink]) -> list[Sink]:
        """Store the output of some runs; return those that are dealt with."""
        counts: dict[Sink, int] = {}
        room, rows = _BYTES, list[dict[str, object]]()
        with self._database.writer() as connection:
            held = _held(connection, batch)
            for sink in batch:
                if sink.fence not in held:  # another's, or deleted: nothing more is stored
                    counts[sink] = sink.waiting
                elif room > 0:
                    new, counts[sink] = sink.rows(connection, room)
                    rows += new
                    room -= counts[sink]
            if rows:
                connection.execute(sa.insert(_table), rows)
        for sink, count in counts.items():
            sink.stored(count)
        # The one that the transaction had no room for comes again.
        return [sink for sink in counts if room > 0 or not sink.waiting]


def _held(connection: sa.Connection, sinks: list[Sink]) -> set[states.Fence]:
    """Return the attempts that still own their executions, and keep it so meanwhile."""
    table = records.table
    ids = [sink.fence.execution_id for sink in sinks]
    query = sa.select(table.c.id, table.c.runner_id, table.c.attempts).where(
        table.c.id.in_(ids), records.NOT_ENDED
    ).order_by(table.c.id).with_for_update()
    return {states.Fence(*row) for row in connection.execute(query)}
