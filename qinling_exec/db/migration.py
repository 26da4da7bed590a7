# SPDX-License-Identifier: Apache-2.0
"""Schema versions, through Alembic."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pathlib
import time
from collections.abc import Iterator

import alembic.command
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(location()).replace("%", "%%"))
    return config


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to a revision, by default the newest.

    :raises qinling_exec.exceptions.InputError: it is at a revision of a newer program.
    """
    refuse_newer(version(database))
    _run(database, alembic.command.upgrade, revision)


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema back to a revision; ``base`` removes every table."""
    _run(database, alembic.command.downgrade, revision)


def _run(database: Database, command: object, revision: str) -> None:
    config = _config()
    with database.patient() as connection, _alone(connection):
        config.attributes["connection"] = connection
        command(config, revision)  # type: ignore[operator]
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
        return _heads(connection)


def _heads(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """Return the newest revision that this program knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def refuse_newer(current: str | None) -> None:
    """Stop before a schema that this program can't know.

    :param current: its revision, None without a schema.
    :raises qinling_exec.exceptions.InputError: a newer program made it.
    """
    scripts = ScriptDirectory.from_config(_config())
    if current not in {None, *(script.revision for script in scripts.walk_revisions())}:
        raise exceptions.InputError(
            f"The database's schema is {current}, which this program does not know: a newer one"
            " has used it. Use that one, or another database."
        )
