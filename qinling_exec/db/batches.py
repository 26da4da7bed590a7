# SPDX-License-Identifier: Apache-2.0
"""Writers of SQLite that share a transaction and its wait for the disk."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import sqlalchemy as sa

from qinling_exec.db.turns import Turns

#: A transaction is committed after so many writers, or so many seconds, though others wait.
_MOST, _LONGEST = 32, 0.02


class _Batch:
    """A transaction, and what became of it."""

    def __init__(self, connection: sa.Connection, resources: ExitStack) -> None:
        self.connection = connection
        self._resources = resources
        self._until = time.monotonic() + _LONGEST
        self._members = 0
        self._over = threading.Event()
        self._error: BaseException | None = None

    @property
    def full(self) -> bool:
        """True when nobody else is to join, after the first; one that failed has ended it."""
        return (not self._members or self._members >= _MOST or self._error is not None
                or time.monotonic() > self._until)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Write; what an exception leaves half done is taken back, and nothing else."""
        # The first needs no savepoint: all that there is to take back is its own.
        savepoint = self.connection.begin_nested() if self._members else None
        try:
            yield
            if savepoint is not None:
                savepoint.commit()
        except BaseException as error:
            if savepoint is not None:
                try:
                    savepoint.rollback()
                except Exception:  # the database has given up the whole transaction
                    self._error = error
            raise
        self._members += 1

    def end(self) -> None:
        """Commit, or roll back when nobody wrote; those who :meth:`wait` go on."""
        try:
            with self._resources:
                self._settle()
        finally:
            self._over.set()

    def _settle(self) -> None:
        try:
            if self._error is None and self._members:
                self.connection.commit()
            else:
                self.connection.rollback()
        except Exception as error:
            self._error = self._error or error
            with contextlib.suppress(Exception):
                self.connection.rollback()

    def wait(self) -> None:
        """Return when what was written is on the disk; raise what kept it from that."""
        self._over.wait()
        if self._error is not None:
            raise self._error


class Batches:
    """Lets writers take turns, and commits those together that come while others write.

    SQLite has one writer at a time, and a commit takes longer than all that most writers do before
    it. Whoever finds others waiting hands its open transaction on to the next of them, and the
    last one commits for all. So a writer waits for the commit that is under way and for its own,
    however many there are. One that fails takes back its own part, to a savepoint.

    :param begin: opens a transaction that writes.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._begin = begin
        self._turns = Turns()
        self._open: _Batch | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Write; what was written is on the disk when this ends.

        That is so after an exception too: its reason may be what others of the batch have written.
        """
        self._turns.take()
        try:
            batch = self._open = self._open or self._new()
        except BaseException:
            self._turns.give()
            raise
        try:
            with batch.joined():
                yield batch.connection
        finally:
            self._leave(batch)
            batch.wait()

    def _new(self) -> _Batch:
        with ExitStack() as resources:
            connection = resources.enter_context(self._begin())
            return _Batch(connection, resources.pop_all())

    def _leave(self, batch: _Batch) -> None:
        """Hand the transaction on, or end it, and the turn in any case."""
        try:
            if batch.full or not self._turns.wanted:
                self._open = None
                batch.end()
        finally:
            self._turns.give()
