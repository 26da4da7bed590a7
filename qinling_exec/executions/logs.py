# SPDX-License-Identifier: Apache-2.0
"""What runs print: collected while they run, stored in pieces, read at any time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states

LOG = logging.getLogger(__name__)
#: Seconds of output that a killed service may lose at the most.
_FLUSH_SECONDS = 0.25
#: Rounds between looks whether the executions are still there.
_LOOK_ROUNDS = 4

_table = models.ExecutionLog.__table__


def read(connection: sa.Connection, execution_id: str) -> bytes:
    """Return what has been stored of an execution's log."""
    query = sa.select(_table.c.data).where(_table.c.execution_id == execution_id)
    return b"".join(connection.execute(query.order_by(_table.c.position)).scalars())


class Sink:
    """The log of one run: bytes go in, pieces come out.

    :param limit: bytes kept; the worker cuts at its own limit and says so, this guards against
        a worker that does not.
    """

    def __init__(self, fence: states.Fence, limit: int) -> None:
        self.fence = fence
        self._lock = threading.Lock()
        self._pending: list[bytes] = []
        self._position = 0
        self._left = limit

    def write(self, data: bytes) -> None:
        """Take what the run printed."""
        with self._lock:
            data = data[: self._left]
            self._left -= len(data)
            if data:
                self._pending.append(data)

    def store(self, connection: sa.Connection) -> int:
        """Store what came since the last time, in a transaction that has checked the fence.

        :returns: how many pieces :meth:`stored` is to be told of, once that is committed.
        """
        with self._lock:
            pieces = list(self._pending)
        data = b"".join(pieces)
        if data:
            connection.execute(sa.insert(_table), {
                "execution_id": self.fence.execution_id, "position": self._position,
                "data": data,
            })
        return len(pieces)

    def stored(self, pieces: int) -> None:
        """Let go of pieces that are safely stored."""
        with self._lock:
            self._position += sum(len(piece) for piece in self._pending[:pieces])
            del self._pending[:pieces]

    @property
    def waiting(self) -> bool:
        """True when there is something to store."""
        return bool(self._pending)


class Flusher:
    """Stores the output of all running executions of this process, four times a second.

    On its rounds it notices executions that are not this process's any more.

    :param on_lost: called with the id of an execution that was deleted or taken over.
    """

    def __init__(self, database: Database, on_lost: Callable[[str], object]) -> None:
        self._database = database
        self._on_lost = on_lost
        self._sinks: set[Sink] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="log-flusher", daemon=True)

    def start(self) -> None:
        """Begin to flush."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the runs' last bytes are stored with their results."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def add(self, sink: Sink) -> None:
        """Take a run's log into the rounds."""
        with self._lock:
            self._sinks.add(sink)

    def remove(self, sink: Sink) -> None:
        """Leave a run's log alone from now on; returns when no round is at it."""
        with self._lock:
            self._sinks.discard(sink)

    def _loop(self) -> None:
        rounds = 0
        while not self._stop.wait(_FLUSH_SECONDS):
            rounds += 1
            try:
                self._flush()
                if rounds % _LOOK_ROUNDS == 0:
                    self._look()
            except Exception as error:  # the bytes stay; the next round tries again
                LOG.warning("Logs of running executions could not be stored: %s", error)

    def _flush(self) -> None:
        with self._lock:
            waiting = [sink for sink in self._sinks if sink.waiting]
            for sink in waiting:
                with self._database.writer() as connection:
                    pieces = sink.store(connection) if _holds(connection, sink.fence) else 0
                sink.stored(pieces)


    def _look(self) -> None:
        """Report the runs that lost their execution."""
        with self._lock:
            fences = {sink.fence.execution_id: sink.fence for sink in self._sinks}
        if not fences:
            return
        table = records.table
        query = sa.select(table.c.id, table.c.runner_id, table.c.attempts).where(
            table.c.id.in_(list(fences)), table.c.status == states.RUNNING
        )
        with self._database.reader() as connection:
            held = {states.Fence(*row) for row in connection.execute(query)}
        for fence in set(fences.values()) - held:
            with self._lock:  # it may have ended in the meantime
                going = any(sink.fence == fence for sink in self._sinks)
            if going:
                self._on_lost(fence.execution_id)


def _holds(connection: sa.Connection, fence: states.Fence) -> bool:
    """Tell whether an attempt still owns its execution, and keep it so in this transaction."""
    table = records.table
    query = sa.select(table.c.id).where(
        table.c.id == fence.execution_id, table.c.status == states.RUNNING,
        table.c.runner_id == fence.runner_id, table.c.attempts == fence.attempt,
    )
    return connection.execute(query.with_for_update()).first() is not None
