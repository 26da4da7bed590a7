# SPDX-License-Identifier: Apache-2.0
"""The service's own way into a database, for tests and benchmarks that start no service."""

from __future__ import annotations

from qinling_exec import conf as configuration
from qinling_exec.db import migration
from qinling_exec.db.engine import Database


def opened(url: str, **options: object) -> Database:
    """Return a database of the service, as it is.

    :param options: others than ``connection`` of ``[database]``.
    """
    conf = configuration.load()
    for name, value in {"connection": url, **options}.items():
        conf.set_override(name, value, "database")
    return Database(conf)


def migrated(url: str, **options: object) -> Database:
    """Return a database of the service with the newest schema; see :func:`opened`."""
    database = opened(url, **options)
    migration.upgrade(database)
    return database
