# SPDX-License-Identifier: Apache-2.0
"""The database of a process: transactions that read, that write, and that are tried again."""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from oslo_config import cfg

from qinling_exec import exceptions
from qinling_exec.db import connections, failures
from qinling_exec.db.batches import Batches
from qinling_exec.db.breaker import Breaker
from qinling_exec.db.failures import Kind

LOG = logging.getLogger(__name__)
T = TypeVar("T")
#: Seconds between tries of a transaction: at most the first at first, then doubling to the last.
_PAUSES = (0.02, 1.0)
#: Seconds after which a transaction is not tried anew.
_PATIENCE = 10.0


def utcnow() -> datetime:
    """Return the time as the database keeps it: UTC, to the microsecond, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


class OutcomeUnknown(Exception):
    """The connection was lost while COMMIT was on its way: it may have been carried out."""


class Database:
    """One database, shared by all threads of a process. Making it connects to nothing.

    The isolation is READ COMMITTED (SQLite: serializable): whatever depends on what was read is
    written by compare-and-set, which holds at that level, on Galera too, and needs no retries of
    transactions that merely read old rows.

    :param conf: configuration with the group [database].
    :raises qinling_exec.exceptions.Unavailable: from all methods that open a transaction, when
        the database can't be reached or does not answer in time.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._engine = connections.build(conf)
        #: ``sqlite``, ``postgresql`` or ``mysql``, which is MariaDB too.
        self.kind = self._engine.url.get_backend_name()
        options = conf.database
        self._breaker = Breaker(options.down_pause, options.statement_timeout + 1)
        self._attempts = options.transaction_attempts
        #: Opens a transaction that writes; errors leave it as they are.
        self._writing: Callable[[], AbstractContextManager[sa.Connection]] = self._writing_alone
        self._in_order = self._engine
        reading: dict[str, Any] = {}
        if self.kind == "sqlite":
            # It has one writer at a time and lets the others sleep and poll.
            self._writing = Batches(self._beginning).writing
        elif self.kind == "postgresql":
            # At READ COMMITTED each statement has a view of its own anyway; without BEGIN and
            # ROLLBACK that is two trips less. On MariaDB the switch itself would be a trip.
            reading = {"isolation_level": "AUTOCOMMIT"}
            # Connections of their own: to set it for a transaction is a trip, and for one that
            # reads, which is none, it would not last until the next statement.
            self._in_order = connections.build(conf, in_order=True)
        self._reading, self._reading_in_order = (
            one.execution_options(**reading) if reading else one
            for one in (self._engine, self._in_order))

    @property
    def engine(self) -> sa.Engine:
        """The SQLAlchemy engine, for reports and tests."""
        return self._engine

    @property
    def is_down(self) -> bool:
        """True while the database is known to be out of reach."""
        return self._breaker.is_down

    @contextlib.contextmanager
    def patient(self) -> Iterator[sa.Connection]:
        """Open a connection of its own on which a statement may take any time, for migrations."""
        engine = connections.build(self._conf, patient=True)
        try:
            with _translated(), engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    @contextlib.contextmanager
    def reader(self, *, in_order: bool = False) -> Iterator[sa.Connection]:
        """Open a transaction that only reads.

        :param in_order: PostgreSQL sorts nothing in it that an index has in order. By statistics
            from when next to nothing waited, to read a whole queue and to sort it seems to it as
            cheap as to read the first of it. What has to be sorted still is.
        """
        engine = self._reading_in_order if in_order else self._reading
        with _translated(), self._connected(engine) as connection:
            connection.begin()  # rolled back when the connection goes to the pool
            yield connection

    @contextlib.contextmanager
    def writer(self, *, in_order: bool = False) -> Iterator[sa.Connection]:
        """Open a transaction that writes; it is committed unless an exception leaves it.

        It can't be tried again: prefer :meth:`transact`.

        :param in_order: as for :meth:`reader`.
        """
        apart = in_order and self._in_order is not self._engine
        with _translated(), (self._writing_alone(self._in_order) if apart
                             else self._writing()) as connection:
            yield connection

    def transact(self, work: Callable[[sa.Connection], T],
                 settled: Callable[[sa.Connection], T | None] | None = None) -> T:
        """Run ``work`` in a transaction that writes, again where that does nothing twice.

        The database rolls back what it could not commit: after a deadlock or a failed
        certification, and when the connection is lost before COMMIT, ``work`` is run again. It
        must have no effect but on its connection. When the connection is lost in COMMIT, nobody
        knows whether the transaction was carried out: ``settled`` finds out.

        :param settled: given a connection, returns the transaction's result when it was
            committed, and None when not, in which case ``work`` is run again, in the same
            transaction: a row that it looks at should be locked (``with_for_update``). Without
            it an unknown outcome is answered as Unavailable.
        :returns: what ``work`` or ``settled`` returned.
        """
        until = time.monotonic() + _PATIENCE
        unknown = False

        def last(attempt: int) -> bool:
            # Whoever has to find out what happened does so as long as there is time.
            return time.monotonic() > until or (attempt >= self._attempts and not unknown)

        for attempt in itertools.count(1):
            try:
                with self._writing() as connection:
                    known = settled(connection) if unknown and settled is not None else None
                    return known if known is not None else work(connection)
            except exceptions.ServiceError:
                if not unknown or last(attempt):
                    raise
            except OutcomeUnknown as error:
                unknown = True
                if settled is None or last(attempt):
                    raise _unsure() from error
                LOG.warning("The database was lost during a commit: its outcome is looked up.")
            except Exception as error:
                kind = failures.kind(error)
                # A duplicate while the outcome is unknown is this transaction's own first try.
                again = {Kind.CONFLICT, Kind.LOST} | ({Kind.DUPLICATE} if unknown else set())
                if kind not in again or last(attempt):
                    if unknown:
                        raise _unsure() from error
                    known_as = failures.answer(error)
                    if known_as is None:
                        raise
                    raise known_as from error
                LOG.info("A transaction is tried again (%s).", kind.name.lower())
            time.sleep(random.uniform(0, min(_PAUSES[0] * 2 ** min(attempt, 20), _PAUSES[1])))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close every pooled connection."""
        for engine in {self._engine, self._in_order}:
            engine.dispose()

    @contextlib.contextmanager
    def _writing_alone(self, engine: sa.Engine | None = None) -> Iterator[sa.Connection]:
        with self._connected(engine or self._engine) as connection:
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                _roll_back(transaction)
                raise
            try:
                transaction.commit()
            except Exception as error:
                if failures.kind(error) is Kind.LOST:
                    raise OutcomeUnknown from error
                raise

    @contextlib.contextmanager
    def _beginning(self) -> Iterator[sa.Connection]:
        """Open a transaction of SQLite that somebody else commits or rolls back."""
        with self._connected(self._engine) as connection:
            with _immediate():  # not longer: who reads meanwhile, on another connection, may
                connection.begin()
            yield connection

    @contextlib.contextmanager
    def _connected(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """Take a connection, and notice when the database is down or silent."""
        self._breaker.check()
        try:
            connection = engine.connect()
        except Exception as error:
            if failures.kind(error) is Kind.LOST:
                self._breaker.trip(error)
            raise
        began = time.monotonic()
        try:
            with contextlib.closing(connection):
                yield connection
        except Exception as error:
            if failures.kind(error) is not Kind.LOST:
                self._breaker.reset()
            elif time.monotonic() - began > self._conf.database.statement_timeout:
                self._breaker.trip(error)
            raise
        self._breaker.reset()


@contextlib.contextmanager
def _immediate() -> Iterator[None]:
    """Make SQLite transactions of this thread take the write lock when they begin.

    One that reads first and writes later fails when another wrote in between.
    """
    connections.mode.immediate = True
    try:
        yield
    finally:
        connections.mode.immediate = False


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what makes a database unusable into errors that a client understands."""
    try:
        yield
    except exceptions.ServiceError:
        raise
    except OutcomeUnknown as error:
        raise _unsure() from error
    except Exception as error:
        known = failures.answer(error)
        if known is None:
            raise
        raise known from error


def _roll_back(transaction: sa.RootTransaction) -> None:
    """Roll back without hiding the error that is the reason for it."""
    try:
        transaction.rollback()
    except Exception as error:
        LOG.debug("The rollback failed as well: %s", error)


def _unsure() -> exceptions.Unavailable:
    return exceptions.Unavailable("The database was lost while it stored this: it may be stored or"
                                  " not. Look, or try again later.")
