# SPDX-License-Identifier: Apache-2.0
"""Changes of large tables that do not stop those who use them. For migrations.

PostgreSQL builds and drops indexes CONCURRENTLY, MariaDB INPLACE with LOCK=NONE; columns are added
and removed in the catalogue alone. What still needs a table for itself for a moment waits for it
a short time only, since everybody else queues behind the one who waits, and tries again.

None of this can be undone by a rollback. Each step looks whether it is done already, so that a
migration that was interrupted can be run again. SQLite has no such means: a migration holds its
one lock, and the embedded service migrates before it answers.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from qinling_exec.db import failures

LOG = logging.getLogger(__name__)
#: For so long others may have to wait behind a change that waits for its lock.
_LOCK_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
_TRIES = 600


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column that may be NULL or has a constant as its server default."""
    if column.name in _columns(table):
        return
    if _kind() == "mysql":
        spec = sa.schema.CreateColumn(column).compile(dialect=op.get_bind().dialect)
        _run(f"ALTER TABLE {table} ADD COLUMN {spec}, ALGORITHM=INPLACE, LOCK=NONE")
        return
    with _autocommit():
        _patiently(lambda: op.add_column(table, column))


def drop_column(table: str, name: str) -> None:
    """Remove a column that no index is on."""
    if name not in _columns(table):
        return
    if _kind() == "mysql":
        _run(f"ALTER TABLE {table} DROP COLUMN `{name}`, ALGORITHM=INPLACE, LOCK=NONE")
        return
    with _autocommit():
        _patiently(lambda: op.drop_column(table, name))


def create_index(name: str, table: str, columns: Sequence[str], **options: Any) -> None:
    """Build an index.

    :param options: as of alembic's create_index: ``unique``, ``postgresql_where`` ...
    """
    if _kind() == "postgresql":
        _drop_invalid(name)
    if name in _indexes(table):
        return
    if _kind() == "mysql":
        unique = "UNIQUE " if options.get("unique") else ""
        _run(f"ALTER TABLE {table} ADD {unique}INDEX {name} ({', '.join(columns)}),"
             " ALGORITHM=INPLACE, LOCK=NONE")
        return
    with _autocommit(wait_for_locks=True):  # it waits for old transactions, and stops nobody
        op.create_index(name, table, list(columns),
                        postgresql_concurrently=True, **options)


def drop_index(name: str, table: str, **options: Any) -> None:
    """Remove an index. :param options: as those it was made with."""
    if name not in _indexes(table):
        return
    if _kind() == "mysql":
        _run(f"ALTER TABLE {table} DROP INDEX {name}, ALGORITHM=INPLACE, LOCK=NONE")
        return
    with _autocommit(wait_for_locks=True):
        op.drop_index(name, table_name=table, postgresql_concurrently=True, **options)


def _kind() -> str:
    return str(op.get_bind().dialect.name).replace("mariadb", "mysql")


def _columns(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}


def _indexes(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}


def _run(statement: str) -> None:
    op.execute(f"SET SESSION lock_wait_timeout = {max(1, round(_LOCK_SECONDS))}")
    _patiently(lambda: op.execute(statement))


@contextlib.contextmanager
def _autocommit(*, wait_for_locks: bool = False) -> Iterator[None]:
    """Leave the migration's transaction, on PostgreSQL."""
    if _kind() != "postgresql":
        yield
        return
    with op.get_context().autocommit_block():
        limit = 0 if wait_for_locks else round(_LOCK_SECONDS * 1000)
        op.execute(f"SET lock_timeout = {limit}")
        try:
            yield
        finally:
            op.execute("RESET lock_timeout")


def _patiently(change: Any) -> None:
    """Make a change as soon as the lock for it can be had at once."""
    for attempt in range(_TRIES):
        try:
            return change()  # type: ignore[no-any-return]
        except Exception as error:
            busy = failures.kind(error) in (failures.Kind.BUSY, failures.Kind.CONFLICT)
            if not busy or attempt == _TRIES - 1:
                raise
            LOG.info("The table is in use; the change is tried again.")
            time.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1))
    return None


def _drop_invalid(name: str) -> None:
    """Remove what an interrupted build left behind: an index that is never used."""
    known = op.get_bind().execute(sa.text(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
    ), {"name": name}).scalar()
    if known is False:
        with _autocommit(wait_for_locks=True):
            op.execute(f"DROP INDEX CONCURRENTLY {name}")
