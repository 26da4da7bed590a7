# SPDX-License-Identifier: Apache-2.0
"""A time limit for queries that may turn out to be slow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exc

from qinling_exec import exceptions
from qinling_exec.db import failures

#: Between two looks at the clock, in steps of SQLite's virtual machine: a fraction of a ms.
_STEPS = 20_000
#: PostgreSQL's query_canceled; ER_STATEMENT_TIMEOUT of MariaDB, ER_QUERY_TIMEOUT of MySQL.
_CUT_SHORT: set[object] = {"57014", 1969, 3024, "SQLITE_INTERRUPT"}


@contextlib.contextmanager
def limited(connection: sa.Connection, seconds: float,
            error: exceptions.ServiceError) -> Iterator[None]:
    """Let each query of the block take ``seconds`` at the most.

    :param error: what is raised when one takes longer. The transaction can't be used any more.
    """
    limit = {"sqlite": _on_sqlite, "postgresql": _on_postgresql}.get(
        connection.dialect.name, _on_mariadb)
    try:
        with limit(connection, seconds):
            yield
    except (db_exc.DBError, sa.exc.DBAPIError) as problem:
        if not _cut_short(problem):
            raise
        raise error from problem


@contextlib.contextmanager
def _on_sqlite(connection: sa.Connection, seconds: float) -> Iterator[None]:
    driver: Any = connection.connection.driver_connection
    until = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


@contextlib.contextmanager
def _on_postgresql(connection: sa.Connection, seconds: float) -> Iterator[None]:
    autocommit = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    local = "" if autocommit else "LOCAL"  # which ends with the transaction
    connection.exec_driver_sql(f"SET {local} statement_timeout = {_milliseconds(seconds)}")
    try:
        yield
    finally:
        if autocommit and not connection.invalidated:
            connection.exec_driver_sql("RESET statement_timeout")


@contextlib.contextmanager
def _on_mariadb(connection: sa.Connection, seconds: float) -> Iterator[None]:
    maria = getattr(connection.dialect, "is_mariadb", True)

    def add_limit(_connection: Any, _cursor: Any, statement: str, parameters: Any,
                  _context: Any, _many: bool) -> tuple[str, Any]:
        if maria:
            return f"SET STATEMENT max_statement_time={seconds:f} FOR {statement}", parameters
        hint = f"SELECT /*+ MAX_EXECUTION_TIME({_milliseconds(seconds)}) */"
        return statement.replace("SELECT", hint, 1), parameters

    sa.event.listen(connection, "before_cursor_execute", add_limit, retval=True)
    try:
        yield
    finally:
        sa.event.remove(connection, "before_cursor_execute", add_limit)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _cut_short(problem: BaseException) -> bool:
    """Whether an error, or what it was made of, says that a query was stopped."""
    return any(
        (failures.code(cause) or getattr(cause, "sqlite_errorname", None)) in _CUT_SHORT
        for cause in failures.chain(problem)
    )
