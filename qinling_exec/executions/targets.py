# SPDX-License-Identifier: Apache-2.0
"""What an execution runs: a version of a function, with everything that a worker needs."""

from __future__ import annotations

import hashlib
import json
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


@dataclass(frozen=True)
class Target:
    """A version of a function as its workers are made; version 0 is the latest package."""

    function_id: str
    version: int
    runtime_id: str | None
    entry: str | None
    package: str | None
    cpu: int
    memory_size: int
    timeout: int

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
                  function.cpu, function.memory_size, function.timeout)


def load(connection: sa.Connection, function_id: str, version: int) -> Target | None:
    """Return what an accepted execution runs, None when it was deleted meanwhile."""
    columns: list[sa.ColumnElement[Any]] = [
        _functions.c.runtime_id, _functions.c.entry, _functions.c.cpu, _functions.c.memory_size,
        _functions.c.timeout,
    ]
    if version == 0:
        query = sa.select(*columns, _functions.c.package)
    else:
        query = sa.select(*columns, _versions.c.package).join(
            _versions, sa.and_(_versions.c.function_id == _functions.c.id,
                               _versions.c.version_number == version)
        )
    row = connection.execute(query.where(_functions.c.id == function_id)).first()
    if row is None:
        return None
    return Target(function_id, version, row.runtime_id, row.entry, row.package, row.cpu,
                  row.memory_size, row.timeout)


def _check_runtime(connection: sa.Connection, runtime_id: str) -> None:
    query = sa.select(_runtimes.c.status).where(_runtimes.c.id == runtime_id)
    if connection.execute(query).scalar() != runtimes.AVAILABLE:
        raise exceptions.Conflict(f"Runtime {runtime_id} is not available.")
