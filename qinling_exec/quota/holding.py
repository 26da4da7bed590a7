# SPDX-License-Identifier: Apache-2.0
"""Holding a project to its limits, in the transaction that gives it more."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from qinling_exec import exceptions
from qinling_exec.db import models
from qinling_exec.quota.limits import FUNCTIONS, PACKAGE_BYTES, Limits

_locks = models.QuotaLock.__table__
_functions = models.Function.__table__
_versions = models.FunctionVersion.__table__
_packages = models.Package.__table__


def lock(connection: sa.Connection, project_id: str) -> None:
    """Let one transaction at a time count what a project has, until it ends.

    Whoever waited here sees in its next statement what the one before has stored.
    """
    # One statement, so that nobody waits for another one's insert and then for its lock.
    row = {"project_id": project_id, "taken": 0}
    once_more = {"taken": _locks.c.taken + 1}
    if connection.dialect.name == "mysql":
        connection.execute(mysql.insert(_locks).values(row).on_duplicate_key_update(once_more))
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(_locks).values(row).on_conflict_do_update(
        index_elements=[_locks.c.project_id], set_=once_more))


def over(resource: str, limit: int, usage: int, more: int) -> str:
    """Return what the caller is told."""
    return (f"Quota exceeded for {resource}: the limit of the project is {limit}, it has {usage},"
            f" and {more} more would be over it.")


class Holding:
    """Holds projects to their limits of functions and of bytes in packages, exactly."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def of(self, project_id: str) -> Mapping[str, int]:
        """Return the limits for :meth:`check`, before a transaction is open.

        :raises qinling_exec.exceptions.Unavailable: they can't be asked for.
        """
        return self._limits.of(project_id)

    def check(self, connection: sa.Connection, project_id: str, limits: Mapping[str, int], *,
              functions: int, size: int) -> None:
        """Refuse what was added in a transaction, which must not be committed then.

        :param functions: how many were added.
        :param size: bytes that may have been added; the same package counts once.
        :raises qinling_exec.exceptions.OverQuota: the project has too much now.
        """
        added = {name: more for name, more in ((FUNCTIONS, functions), (PACKAGE_BYTES, size))
                 if more > 0 and limits[name] >= 0}
        if not added:
            return
        lock(connection, project_id)
        for name, more in added.items():
            usage = _USAGES[name](connection, project_id)
            if usage > limits[name]:
                before = max(0, usage - more)
                raise exceptions.OverQuota(over(name, limits[name], before, usage - before))


def _count(connection: sa.Connection, project_id: str) -> int:
    query = sa.select(sa.func.count()).where(_functions.c.project_id == project_id)
    return int(connection.execute(query).scalar_one())


def _size(connection: sa.Connection, project_id: str) -> int:
    held = sa.union(*(sa.select(table.c.package).where(table.c.project_id == project_id)
                      for table in (_functions, _versions)))
    query = sa.select(sa.func.sum(_packages.c.size)).where(_packages.c.sha256.in_(held))
    return int(connection.execute(query).scalar() or 0)


_USAGES = {FUNCTIONS: _count, PACKAGE_BYTES: _size}
