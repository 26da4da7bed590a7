# SPDX-License-Identifier: Apache-2.0
"""Schema versions, through Alembic.

Alembic is a tenth of a program's start, so only what changes the schema loads it; which revisions
there are is read from the files' names, and the database's from Alembic's table.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import pathlib
import time
from collections.abc import Iterator

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db.engine import Database

LOG = logging.getLogger(__name__)
_LOCK_PAUSE = 0.2
#: Take the lock that only one migration has at a time, and give it back. It belongs to the
#: database (PostgreSQL) or bears its name (MariaDB), and ends with the connection.
_LOCKS = {
    "postgresql": ("SELECT pg_try_advisory_lock(7464354617)",
                   "SELECT pg_advisory_unlock(7464354617)"),
    "mysql": ("SELECT GET_LOCK(CONCAT('qinling-exec ', LEFT(DATABASE(), 50)), 0)",
              "SELECT RELEASE_LOCK(CONCAT('qinling-exec ', LEFT(DATABASE(), 50)))"),
}


def location() -> pathlib.Path:
    """Return the folder of the migrations.

    A wheel carries the checkout's ``alembic/`` as ``qinling_exec/db/migrations``; an editable
    install does not see that mapping and uses the checkout itself.

    :raises FileNotFoundError: neither is there; the installation is broken.
    """
    here = pathlib.Path(__file__).resolve()
    for folder in (here.with_name("migrations"), here.parents[2] / "alembic"):
        if (folder / "env.py").is_file():
            return folder
    raise FileNotFoundError("The database migrations are not installed: reinstall qinling-exec.")


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to a revision, by default the newest.

    :raises qinling_exec.exceptions.InputError: it is at a revision of a newer program.
    """
    refuse_newer(version(database))
    _run(database, "upgrade", revision)


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema back to a revision; ``base`` removes every table."""
    _run(database, "downgrade", revision)


def _run(database: Database, command: str, revision: str) -> None:
    import alembic.command
    import alembic.config

    config = alembic.config.Config()
    config.set_main_option("script_location", str(location()).replace("%", "%%"))
    with database.patient() as connection, _alone(connection):
        config.attributes["connection"] = connection
        getattr(alembic.command, command)(config, revision)
        connection.commit()


@contextlib.contextmanager
def _alone(connection: sa.Connection) -> Iterator[None]:
    """Let one process migrate at a time; the others wait, and find nothing left to do.

    They ask again and again in place of waiting in the database: PostgreSQL would wait for them
    in its turn before it finishes an index.
    """
    if connection.dialect.name == "sqlite":
        # A file beside it: to close the database's own file would end SQLite's locks on it.
        number = os.open(f"{connection.engine.url.database}.migration",
                         os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    take, give_back = _LOCKS[connection.dialect.name.replace("mariadb", "mysql")]
    waiting = False
    while not connection.execute(sa.text(take)).scalar():
        connection.commit()
        if not waiting:
            LOG.warning("Another process changes the database schema: waiting for its end.")
        waiting = True
        time.sleep(_LOCK_PAUSE)
    connection.commit()
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(sa.text(give_back))
            connection.commit()


def version(database: Database) -> str | None:
    """Return the revision that the database is at, None when it has no schema."""
    with database.engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.execute(
            sa.text("SELECT version_num FROM alembic_version")).scalar()
        return found


def newest() -> str:
    """Return the newest revision that this program knows."""
    return max(_revisions())


@functools.cache
def _revisions() -> set[str]:
    """Read once: a health check asks each time, and a program does not learn revisions."""
    return {path.name.partition("_")[0] for path in (location() / "versions").glob("[0-9]*.py")}


def refuse_newer(current: str | None) -> None:
    """Stop before a schema that this program can't know.

    :param current: its revision, None without a schema.
    :raises qinling_exec.exceptions.InputError: a newer program made it.
    """
    if current not in {None, *_revisions()}:
        raise exceptions.InputError(
            f"The database's schema is {current}, which this program does not know: a newer one"
            " has used it. Use that one, or another database."
        )
