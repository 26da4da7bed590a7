# SPDX-License-Identifier: Apache-2.0
"""Connections to each kind of database: their time limits, their isolation, their pool."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db.sqlalchemy import engines
from sqlalchemy import pool

from qinling_exec import exceptions
from qinling_exec.db import failures, packets, timed

#: [database] options that are handed to oslo.db as they are.
_PASSED_ON = (
    "mysql_sql_mode", "mysql_wsrep_sync_wait", "connection_recycle_time", "connection_debug",
    "connection_trace", "connection_parameters",
)
_OF_POOLS = ("max_pool_size", "max_overflow", "pool_timeout")
_SQLITE_BUSY_SECONDS = 15
_READ_GRACE = 1.0
#: Whether transactions of a thread take SQLite's write lock when they begin.
mode = threading.local()


def build(conf: cfg.ConfigOpts, *, patient: bool = False, in_order: bool = False) -> sa.Engine:
    """Return an engine that has not connected yet.

    :param patient: without a limit on how long a statement may take, for migrations.
    :param in_order: have PostgreSQL sort nothing that an index has in order.
    :raises qinling_exec.exceptions.InputError: the URL names no database that can be used.
    """
    try:
        return _build(conf, patient, in_order)
    except (sa.exc.ArgumentError, ImportError) as error:
        raise exceptions.InputError(
            "[database] connection names no database that can be used: check its URL and that the"
            f" driver is installed ({error})."
        ) from error


def read_url(text: str) -> sa.URL:
    """Return the URL of a database.

    :raises qinling_exec.exceptions.InputError: it can't be read. Nothing of it is told: it may be
        its password that is in the way, and that would be taken for a host or a port.
    """
    try:
        url = sa.make_url(text)
        if "@" not in (url.host or ""):
            return url
    except (sa.exc.ArgumentError, ValueError):
        pass
    raise exceptions.InputError(
        "The URL of the database ([database] connection, or --from) can't be read. What has a"
        " meaning in URLs is written by its number in a password, such as %40 for @."
    )


def _build(conf: cfg.ConfigOpts, patient: bool, in_order: bool) -> sa.Engine:
    url = read_url(conf.database.connection)
    kind = url.get_backend_name()
    if kind == "sqlite":
        _create_private(url.database)
    if kind == "mariadb":
        # SQLAlchemy finds out by itself which of the two it is; oslo.db knows errors by one name.
        kind = "mysql"
        url = url.set(drivername=url.drivername.replace("mariadb", kind))
    if kind == "mysql" and "charset" not in url.query:
        # oslo.db would ask for utf8, which has no characters of four bytes.
        url = url.update_query_dict({"charset": "utf8mb4"})
    names = _PASSED_ON if kind == "sqlite" else _PASSED_ON + _OF_POOLS
    options = {name: getattr(conf.database, name) for name in names}
    # max_retries: oslo.db would hang the first request in ten tries of ten seconds.
    engine: sa.Engine = engines.create_engine(
        url.render_as_string(hide_password=False), sqlite_fk=True, max_retries=0,
        thread_checkin=False, **options,
    )
    engine.hide_parameters = True  # errors go to the log; inputs and secrets must not
    limits = _Limits(conf.database.connect_timeout,
                     0 if patient else conf.database.statement_timeout, in_order)
    {"sqlite": _set_up_sqlite, "postgresql": _set_up_postgresql}.get(kind, _set_up_mysql)(
        engine, limits)
    return engine


@dataclass(frozen=True)
class _Limits:
    """Seconds for a connect and for a statement; 0: no limit. And see :func:`build`."""

    connect: int
    statement: int
    in_order: bool

    @property
    def read(self) -> float | None:
        """How long to wait for an answer: the database's own limit comes first."""
        return self.statement + _READ_GRACE if self.statement else None


def _set_up_postgresql(engine: sa.Engine, limits: _Limits) -> None:
    # No statement here runs long enough to be worth compiling; some look as if they did.
    settings = "-c default_transaction_isolation=read\\ committed -c jit=off"
    if limits.in_order:
        settings += " -c enable_sort=off"
    if limits.statement:
        settings += f" -c statement_timeout={limits.statement * 1000}"
        settings += f" -c idle_in_transaction_session_timeout={limits.statement * 2000}"
    defaults: dict[str, Any] = {"connect_timeout": limits.connect}
    if limits.statement:  # a peer that is gone without a word is noticed by then
        defaults |= {
            "tcp_user_timeout": limits.statement * 1000, "keepalives_idle": limits.statement,
            "keepalives_interval": 2, "keepalives_count": 3,
        }

    def connect(_dialect: Any, _record: Any, args: list[Any], given: dict[str, Any]) -> Any:
        if engine.driver == "pg8000":
            given.setdefault("timeout", limits.read)
            return None
        for name, value in defaults.items():
            given.setdefault(name, value)
        given["options"] = f"{settings} {given.get('options', '')}".strip()
        return timed.connect(limits.read, *args, **given) if engine.driver == "psycopg" else None

    sa.event.listen(engine, "do_connect", connect)
    _watch(engine)


def _set_up_mysql(engine: sa.Engine, limits: _Limits) -> None:
    def connect(_dialect: Any, _record: Any, _args: list[Any], given: dict[str, Any]) -> None:
        given.setdefault("connect_timeout", limits.connect)
        if limits.read:
            given.setdefault("read_timeout", int(limits.read))
            given.setdefault("write_timeout", int(limits.read))

    def prepare(connection: Any, _record: Any) -> None:
        maria = _is_mariadb(connection)
        values = {"tx_isolation" if maria else "transaction_isolation": "'READ-COMMITTED'"}
        if limits.statement:
            values["innodb_lock_wait_timeout"] = f"{limits.statement}"
            values |= ({"max_statement_time": f"{limits.statement}"} if maria
                       else {"max_execution_time": f"{limits.statement * 1000}"})
        with connection.cursor() as cursor:  # once, as each trip may take long
            cursor.execute("SET " + ", ".join(
                f"SESSION {name} = {value}" for name, value in values.items()))

    sa.event.listen(engine, "do_connect", connect)
    sa.event.listen(engine, "connect", prepare)
    packets.guard(engine)
    _watch(engine)


def _is_mariadb(connection: Any) -> bool:
    return "mariadb" in connection.get_server_info().lower()


def _set_up_sqlite(engine: sa.Engine, _limits: _Limits) -> None:
    old = engine.pool
    # oslo.db chooses NullPool: a connect and its PRAGMAs for each transaction, four times
    # the cost of a pooled one.
    engine.pool = pool.QueuePool(
        old._creator, pool_size=32, max_overflow=-1, dialect=engine.dialect, _dispatch=old.dispatch
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Readers beside one writer; commits survive a crash of the process and of the machine."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_SECONDS * 1000}")


def _begin_sqlite(connection: sa.Connection) -> None:
    if not getattr(mode, "immediate", False):
        return
    # oslo.db has sent its BEGIN, which takes no lock: SQLAlchemy lets no listener go before it.
    connection.connection.driver_connection.execute("ROLLBACK")  # type: ignore[union-attr]
    connection.info.pop("in_transaction", None)
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    connection.info["in_transaction"] = True


def _create_private(path: str | None) -> None:
    """Create the database file readable by its owner alone: it holds inputs and results.

    One that is there is not opened: closing it again would take away the locks that this process
    has on it (POSIX), and the next program that leaves it would delete its log under us.
    """
    if path in (None, "", ":memory:"):
        raise exceptions.InputError("[database] connection: a SQLite database must be a file.")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _watch(engine: sa.Engine) -> None:
    """Notice dead connections when they are taken from the pool, and useless ones by their error.

    A ping at each checkout, as oslo.db asks for, is a trip to the server and back. A connection
    whose server has gone has an end or an error waiting on its socket, which costs nothing to see.
    """
    engine.pool._pre_ping = False
    sa.event.listen(engine, "checkout", _check)
    judge = engine.dialect.is_disconnect

    def is_disconnect(error: Any, connection: Any, cursor: Any) -> bool:
        return judge(error, connection, cursor) or failures.means_another_connection(error)

    # Not by the event for errors: a listener of oslo.db ends it before ours is called.
    engine.dialect.is_disconnect = is_disconnect  # type: ignore[assignment]


def _check(connection: Any, record: Any, _proxy: Any) -> None:
    number = _socket(connection)
    if number is not None:
        waiting = select.poll()
        waiting.register(number, select.POLLIN)
        suspect = bool(waiting.poll(0))
    else:
        now = time.monotonic()
        suspect = now - record.info.get("checked", now) > 1
        record.info["checked"] = now
    if suspect:
        try:
            connection_is_alive(connection)
        except Exception as error:
            raise sa.exc.InvalidatePoolError() from error


def connection_is_alive(connection: Any) -> None:
    """Ask the server for a word; raise the driver's error when it gives none."""
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("SELECT 1")
    connection.rollback()


def _socket(connection: Any) -> int | None:
    """Return the file descriptor of a driver's connection, when the driver tells it."""
    holders: tuple[Any, ...] = (connection, getattr(connection, "_sock", None))
    for holder in holders:
        if hasattr(holder, "fileno"):
            with contextlib.suppress(OSError):  # one that is only like a file
                return int(holder.fileno())
    return None
