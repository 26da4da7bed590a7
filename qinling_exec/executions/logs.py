# SPDX-License-Identifier: Apache-2.0
"""What runs print: taken while they run, stored in pieces, read at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.executions import states

#: Bytes of a piece at the most; who reads a log holds one of them at a time.
PIECE = 64 * 1024

_table = models.ExecutionLog.__table__


def size(connection: sa.Connection, execution_id: str) -> int:
    """Return how many bytes have been stored of an execution's log."""
    query = (
        sa.select(_table.c.position + sa.func.length(_table.c.data))
        .where(_table.c.execution_id == execution_id)
        .order_by(_table.c.position.desc()).limit(1)
    )
    return int(connection.execute(query).scalar() or 0)


def read(connection: sa.Connection, execution_id: str, begin: int = 0,
         end: int | None = None) -> bytes:
    """Return stored bytes of an execution's log, from ``begin`` up to ``end``.

    Only the pieces that hold them are read.
    """
    position = _table.c.position
    mine = _table.c.execution_id == execution_id
    query = sa.select(position, _table.c.data).where(mine).order_by(position)
    if end is not None:
        query = query.where(position < end)
    if begin > 0:
        first = sa.select(sa.func.max(position)).where(mine, position <= begin)
        query = query.where(position >= (connection.execute(first).scalar() or 0))
    rows = connection.execute(query).all()
    if not rows:
        return b""
    data = b"".join(row.data for row in rows)
    start = rows[0].position
    return data[max(0, begin - start):None if end is None else max(0, end - start)]


def place(connection: sa.Connection, execution_id: str, begin: int) -> tuple[int, bytes] | None:
    """Return where a piece begins at or next behind a byte, and the bytes up to there.

    :returns: None when the log has no such byte, nor ends right before it.
    """
    query = sa.select(_table.c.position, _table.c.data).where(
        _table.c.execution_id == execution_id, _table.c.position <= begin
    )
    row = connection.execute(query.order_by(_table.c.position.desc()).limit(1)).first()
    if row is None or row.position == begin:
        return (begin, b"") if row or not begin else None
    end = row.position + len(row.data)
    return (end, row.data[begin - row.position:]) if begin <= end else None


def heading(attempt: int) -> bytes:
    """Return what stands in front of the log of an attempt."""
    return b"[Attempt %d begins here.]\n" % attempt if attempt > 1 else b""


class Sink:
    """The log of one attempt: bytes go in, pieces come out.

    :param limit: bytes kept; the worker cuts at its own limit and says so, this guards against
        a worker that does not.
    :param resumed: another process has stored the beginning of this attempt's log.
    """

    def __init__(self, fence: states.Fence, limit: int, resumed: bool = False) -> None:
        self.fence = fence
        #: Called when there is something to store.
        self.on_write: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._pending: list[bytes] = []
        self._left = limit
        #: Where the pending bytes begin; None: behind whatever earlier attempts have stored.
        self._position: int | None = 0 if fence.attempt == 1 and not resumed else None
        self._heading = b"" if resumed else heading(fence.attempt)
        self._doubtful = False

    def write(self, data: bytes) -> None:
        """Take what the run printed."""
        with self._lock:
            data = data[: self._left]
            self._left -= len(data)
            if data:
                self._pending.append(data)
        if data and self.on_write is not None:
            self.on_write()

    def store(self, connection: sa.Connection) -> int:
        """Store what came since the last time, in a transaction that has checked the fence.

        :returns: how many bytes :meth:`stored` is to be told of, once that is committed.
        """
        rows, count = self.rows(connection)
        if rows:
            connection.execute(sa.insert(_table), rows)
        return count

    def rows(self, connection: sa.Connection,
             most: int | None = None) -> tuple[list[dict[str, object]], int]:
        """Return what :meth:`store` would store as rows, and how many bytes that are.

        :param most: bytes at the most, of those that are waiting.
        """
        self._find_place(connection)
        with self._lock:
            data = b"".join(self._pending)[:most]
        assert self._position is not None
        return [
            {"execution_id": self.fence.execution_id, "position": self._position + begin,
             "data": data[begin:begin + PIECE]}
            for begin in range(0, len(data), PIECE)
        ], len(data)

    def stored(self, count: int) -> None:
        """Let go of bytes that are safely stored."""
        with self._lock:
            data = b"".join(self._pending)[count:]
            self._pending = [data] if data else []
            self._position = (self._position or 0) + count

    def doubt(self) -> None:
        """Look, next time, what is stored: nobody knows whether a commit went through."""
        self._doubtful = True

    def _find_place(self, connection: sa.Connection) -> None:
        if self._position is None:
            self._position = size(connection, self.fence.execution_id)
            with self._lock:
                self._pending.insert(0, self._heading)
        elif self._doubtful:
            self.stored(size(connection, self.fence.execution_id) - self._position)
        self._doubtful = False

    @property
    def waiting(self) -> int:
        """How many bytes are to be stored."""
        with self._lock:
            return sum(map(len, self._pending))


class Cut:
    """Cuts the log of what does not do so itself, and says so.

    :param limit: bytes that are kept.
    :param known: bytes that were written before.
    """

    def __init__(self, sink: Sink, limit: int, known: int = 0) -> None:
        self._sink = sink
        self._limit = limit
        self._left = max(0, limit - known)
        self._is_cut = known > limit

    def write(self, data: bytes) -> bool:
        """Write what fits; tell whether more is wanted."""
        if self._is_cut:
            return False
        fitting = data[: self._left]
        self._left -= len(fitting)
        self._sink.write(fitting)
        if len(fitting) < len(data):
            self._is_cut = True
            self._sink.write(b"\n[The log was cut here: its limit is %d bytes.]\n" % self._limit)
        return not self._is_cut
