# SPDX-License-Identifier: Apache-2.0
"""Schema versions, through Alembic."""

from __future__ import annotations

import pathlib

import alembic.command
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from qinling_exec.db.engine import Database


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
    """Bring the schema to a revision, by default the newest."""
    _run(database, alembic.command.upgrade, revision)


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema back to a revision; ``base`` removes every table."""
    _run(database, alembic.command.downgrade, revision)


def _run(database: Database, command: object, revision: str) -> None:
    config = _config()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command(config, revision)  # type: ignore[operator]
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
