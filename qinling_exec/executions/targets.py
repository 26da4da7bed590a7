# SPDX-License-Identifier: Apache-2.0
"""What an execution runs: a version of a function, with everything that a worker needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.catalogue import functions, runtimes, versions
from qinling_exec.context import RequestContext
from qinling_exec.db import models

_functions = models.Function.__table__
_versions = models.FunctionVersion.__table__
_runtimes = models.Runtime.__table__
#: Built once: every execution asks.
_RUNTIME_STATUS = sa.select(_runtimes.c.status).where(_runtimes.c.id == sa.bindparam("runtime"))


@dataclass(frozen=True)
class Target:
    """A version of a function as its workers are made; version 0 is the latest package.

    :param image: what the function is made of if it has no package, and then no workers either.
    """

    function_id: str
    version: int
    runtime_id: str | None
    entry: str | None
    package: str | None
    cpu: int
    memory_size: int
    timeout: int
    image: str | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of all that shapes a worker: one of another fingerprint is outdated.

        The timeout is not part of it: it goes along with every run.
        """
        shape = [self.runtime_id, self.entry, self.package, self.cpu, self.memory_size]
        return hashlib.sha256(json.dumps(shape).encode()).hexdigest()


def resolve(connection: sa.Connection, context: RequestContext, function_id: str,
            version: int) -> Target:
    """Return what a caller wants to run.

    :raises qinling_exec.exceptions.NotFound: the function or the version is not there.
    :raises qinling_exec.exceptions.Conflict: its runtime is not available.
    """
    function = functions.find(connection, context, function_id)
    if function.runtime_id:
        _check_runtime(connection, function.runtime_id)
    package = function.package
    if version > 0:
        if function.package is None:
            raise exceptions.InputError("Can not specify version for package type function.")
        package = versions.find(connection, context, function_id, version).package
    return Target(function.id, version, function.runtime_id, function.entry, package,
                  function.cpu, function.memory_size, function.timeout,
                  _image(function.code))


def load(connection: sa.Connection, function_id: str, version: int) -> Target | None:
    """Return what an accepted execution runs, None when it was deleted meanwhile."""
    return load_all(connection, [(function_id, version)]).get((function_id, version))


def load_all(connection: sa.Connection,
             keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Target]:
    """Return what versions of functions run, without those that are not there (any more)."""
    keys = list(keys)
    ids = {function_id for function_id, _ in keys}
    rows = {row.id: row for row in connection.execute(
        sa.select(_functions).where(_functions.c.id.in_(ids))
    )}
    packages: dict[tuple[str, int], str | None] = {(key, 0): row.package
                                                   for key, row in rows.items()}
    if any(version for _, version in keys):
        query = sa.select(_versions.c.function_id, _versions.c.version_number,
                          _versions.c.package).where(_versions.c.function_id.in_(ids))
        packages |= {(row[0], row[1]): row[2] for row in connection.execute(query)}
    found = {}
    for key in keys:
        row = rows.get(key[0])
        if row is not None and key in packages:
            found[key] = Target(key[0], key[1], row.runtime_id, row.entry, packages[key],
                                row.cpu, row.memory_size, row.timeout,
                                _image(json.loads(row.code)))
    return found


def owners(connection: sa.Connection, function_ids: Iterable[str]) -> dict[str, str]:
    """Return the projects that functions belong to."""
    query = sa.select(_functions.c.id, _functions.c.project_id)
    rows = connection.execute(query.where(_functions.c.id.in_(list(function_ids))))
    return {row.id: row.project_id for row in rows}


def _image(code: dict[str, Any]) -> str | None:
    return str(code["image"]) if code.get("source") == functions.IMAGE else None


def _check_runtime(connection: sa.Connection, runtime_id: str) -> None:
    status = connection.execute(_RUNTIME_STATUS, {"runtime": runtime_id}).scalar()
    if status != runtimes.AVAILABLE:
        raise exceptions.Conflict(f"Runtime {runtime_id} is not available.")
