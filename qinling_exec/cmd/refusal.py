# SPDX-License-Identifier: Apache-2.0
"""Why a program ends before it began: one line for the person at the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exc

from qinling_exec import exceptions
from qinling_exec.conf import consistency
from qinling_exec.db import failures, migration
from qinling_exec.service import Service


class StartError(Exception):
    """The program can't go on; the text tells what to do."""


@contextlib.contextmanager
def told(program: str) -> Iterator[None]:
    """Tell on stderr, without a traceback, what a program can't work with, and exit with 1.

    :param program: its name.
    """
    try:
        yield
        return
    except (StartError, cfg.Error, exceptions.ServiceError) as error:
        text = str(error)
    except (sa.exc.DBAPIError, db_exc.DBError) as error:
        text = of_database(error)
    except OSError as error:
        text = f"{error.filename or 'The system refused'}: {error.strerror or error}."
    print(f"{program}: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(1)


def check(conf: cfg.ConfigOpts) -> None:
    """Stop before what no waiting mends; a server's processes would fail at it again and again.

    A database that is away, or has no schema yet, is waited for.

    :raises qinling_exec.exceptions.InputError: the text says what is wrong.
    """
    consistency.check(conf)
    require_database(conf, "a config file")
    database = Service(conf).database
    try:
        migration.refuse_newer(migration.version(database))
    except (sa.exc.DBAPIError, db_exc.DBError) as error:
        if failures.kind(error) is failures.Kind.OTHER:
            raise
    finally:
        database.close()


def require_database(conf: cfg.ConfigOpts, what: str) -> None:
    """Stop where no database is configured.

    :param what: to be named by whoever starts the program.
    :raises qinling_exec.exceptions.InputError: there is none.
    """
    if not conf.database.connection:
        raise exceptions.InputError(
            f"No database is configured: name {what} that has [database] connection.")


def of_database(error: Exception) -> str:
    """Return what is wrong with a database, without the statement that SQLAlchemy adds."""
    reason = str(failures.chain(error)[-1]).partition("\n")[0]
    if failures.kind(error) is failures.Kind.LOST:
        return f"The database can't be reached ({reason}). Check [database] connection."
    if known := failures.answer(error):
        return str(known)
    return (f"The database can't be used ({reason}). Check --data-dir or [database] connection; if"
            " it is damaged, bring it back from a backup.")
