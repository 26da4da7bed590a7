# SPDX-License-Identifier: Apache-2.0
"""Real databases for tests and benchmarks: started, stopped, killed, and removed at the end.

::

    with databases.start("postgresql") as server:
        url = server.new_schema()   # an empty one; server.url is one that all share
        server.kill()
        server.start()

The servers come from Debian's packages. They run as an unprivileged user in a temporary folder on
a free loopback port, with each test's data in a schema of its own.
"""

from __future__ import annotations

import os

from tests.databases.mariadb import MariaDB
from tests.databases.postgresql import PostgreSQL
from tests.databases.server import Missing, Server
from tests.databases.service import migrated, opened
from tests.databases.sqlite import SQLite

__all__ = ["KINDS", "Missing", "Server", "chosen", "migrated", "opened", "start"]

_CLASSES: dict[str, type[Server]] = {
    "sqlite": SQLite, "postgresql": PostgreSQL, "mariadb": MariaDB,
}
KINDS = tuple(_CLASSES)


def start(kind: str, *, durable: bool = False) -> Server:
    """Start a database.

    :param kind: one of :data:`KINDS`.
    :param durable: flush every commit to the disk, as in production; without it a commit
        survives the end of the database's processes (kill -9 included), but not the machine's.
    :raises Missing: its programs are not installed; the text says what to install.
    """
    return _CLASSES[kind](durable=durable)


def chosen() -> tuple[str, ...]:
    """Return the kinds to test: all, or those that QINLING_EXEC_TEST_DATABASES names."""
    named = os.environ.get("QINLING_EXEC_TEST_DATABASES", "").replace(",", " ").split()
    unknown = set(named) - set(KINDS)
    if unknown:
        raise ValueError(f"QINLING_EXEC_TEST_DATABASES: unknown: {', '.join(sorted(unknown))}")
    return tuple(kind for kind in KINDS if not named or kind in named)
