# SPDX-License-Identifier: Apache-2.0
"""Connections and transactions, on oslo.db's enginefacade."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import enginefacade
from sqlalchemy import pool

from qinling_exec import exceptions

#: [database] options that are handed to enginefacade as they are.
_PASSED_ON = (
    "connection", "mysql_sql_mode", "mysql_wsrep_sync_wait", "max_pool_size", "max_overflow",
    "pool_timeout", "connection_recycle_time", "connection_debug", "connection_trace",
    "max_retries", "retry_interval", "connection_parameters",
)
_SQLITE_BUSY_SECONDS = 15


def utcnow() -> datetime:
    """Return the time as the database keeps it: UTC, to the microsecond, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


@enginefacade.transaction_context_provider
class _Transaction:
    """What enginefacade hangs one transaction on."""


class Database:
    """One database, shared by all threads of a process.

    :param conf: configuration with the group [database].
    :raises qinling_exec.exceptions.Unavailable: from :meth:`reader` and :meth:`writer`, when
        the database can't be reached or does not answer in time.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        options = {name: getattr(conf.database, name) for name in _PASSED_ON}
        self._facade = enginefacade.transaction_context()
        self._facade.configure(sqlite_fk=True, **options)
        self._facade.append_on_engine_create(_tune)
        self._write_lock: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        url = sa.make_url(conf.database.connection)
        if url.get_backend_name() == "sqlite":
            _create_private(url.database)
            # SQLite has one writer at a time and lets the others sleep and poll; a lock of
            # our own hands the turn over at once.
            self._write_lock = threading.Lock()

    @property
    def engine(self) -> sa.Engine:
        """The SQLAlchemy engine, for migrations and reports."""
        engine: sa.Engine = self._facade.writer.get_engine()
        return engine

    @contextlib.contextmanager
    def reader(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads."""
        with _translated(), self._facade.reader.connection.using(_Transaction()) as connection:
            yield connection

    @contextlib.contextmanager
    def writer(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes; it is committed unless an exception leaves it."""
        with _translated(), self._write_lock, _immediate():
            with self._facade.writer.connection.using(_Transaction()) as connection:
                yield connection

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


_mode = threading.local()


@contextlib.contextmanager
def _immediate() -> Iterator[None]:
    """Make SQLite transactions of this thread take the write lock when they begin.

    One that reads first and writes later fails when another wrote in between.
    """
    _mode.immediate = True
    try:
        yield
    finally:
        _mode.immediate = False


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what makes a database unusable into errors that a client understands."""
    try:
        yield
    except db_exc.DBConnectionError as error:
        raise exceptions.Unavailable("The database can't be reached. Try again later.") from error
    except (db_exc.DBError, sa.exc.SQLAlchemyError) as error:
        text = str(error)
        if "database or disk is full" in text or "No space left" in text:
            raise exceptions.InsufficientStorage() from error
        if "database is locked" in text or isinstance(error, sa.exc.TimeoutError):
            raise exceptions.Unavailable("The database is busy. Try again later.") from error
        raise


def _tune(engine: sa.Engine) -> None:
    """Set up a new engine for its kind of database."""
    if engine.dialect.name != "sqlite":
        return
    old = engine.pool
    # oslo.db chooses NullPool: a connect and its PRAGMAs for each transaction, four times
    # the cost of a pooled one.
    engine.pool = pool.QueuePool(
        old._creator, pool_size=8, max_overflow=-1, dialect=engine.dialect, _dispatch=old.dispatch
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite, insert=True)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Readers beside one writer; commits survive a crash of the process and of the machine."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_SECONDS * 1000}")


def _begin_sqlite(connection: sa.Connection) -> None:
    if getattr(_mode, "immediate", False) and "in_transaction" not in connection.info:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.info["in_transaction"] = True  # oslo.db's own BEGIN is then left out


def _create_private(path: str | None) -> None:
    """Create the database file readable by its owner alone: it holds inputs and results."""
    if path in (None, "", ":memory:"):
        raise exceptions.InputError("[database] connection: a SQLite database must be a file.")
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
