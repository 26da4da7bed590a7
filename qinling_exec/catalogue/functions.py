# SPDX-License-Identifier: Apache-2.0
"""Functions: a package with its entry, or a container image."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.catalogue import runtimes
from qinling_exec.catalogue.packages import Incoming
from qinling_exec.catalogue.storage import Storage
from qinling_exec.context import RequestContext
from qinling_exec.db import models, scope
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.orchestrator.workers import Workers
from qinling_exec.quota.holding import Holding

PACKAGE, IMAGE = "package", "image"
#: Changes that need no new workers; timeouts go with each run, and what comes after an attempt
#: is read when it ends.
_LIGHT = {"name", "description", "timeout", "max_attempts", "retry_on_failure"}

_table = models.Function.__table__
_versions = models.FunctionVersion.__table__
_aliases = models.FunctionAlias.__table__
_runtimes = models.Runtime.__table__


@dataclass(frozen=True)
class Function:
    """A function as it is stored; ``package`` is the hash of its package."""

    id: str
    name: str | None
    description: str | None
    cpu: int
    memory_size: int
    timeout: int
    max_attempts: int
    retry_on_failure: bool
    runtime_id: str | None
    code: dict[str, Any]
    entry: str | None
    count: int
    latest_version: int
    project_id: str
    created_at: datetime
    updated_at: datetime | None
    package: str | None


def _build(row: sa.Row[Any]) -> Function:
    values = {name: row._mapping[name] for name in Function.__dataclass_fields__}
    return Function(**{**values, "code": json.loads(values["code"])})


@functools.cache  # each execution asks for its function: building a query costs as much again
def _by_id(everywhere: bool) -> sa.Select[Any]:
    """Return the query for a function, of one project or of any."""
    query = sa.select(_table).where(_table.c.id == sa.bindparam("wanted"))
    return query if everywhere else query.where(_table.c.project_id == sa.bindparam("project"))


def find(connection: sa.Connection, context: RequestContext, function_id: str, *,
         own: bool = False) -> Function:
    """Return a function that the caller may reach.

    :param own: only one of the caller's project, also for an administrator.
    :raises qinling_exec.exceptions.NotFound: there is none.
    """
    query = _by_id(everywhere=context.sees_all and not own)
    row = connection.execute(query, {"wanted": function_id, "project": context.project}).first()
    if row is None:
        raise exceptions.NotFound(f"Function not found [id={function_id}]")
    return _build(row)


class Functions:
    """The catalogue of functions."""

    def __init__(self, database: Database, storage: Storage, workers: Workers,
                 holding: Holding) -> None:
        self._database = database
        self._storage = storage
        self._workers = workers
        self._holding = holding

    def create(self, context: RequestContext, values: dict[str, Any],
               package: Incoming | None) -> Function:
        """Store a function, and its package with it or not at all.

        :param values: checked column values; ``code`` is a dict.
        :raises qinling_exec.exceptions.NotFound: the runtime is not there.
        :raises qinling_exec.exceptions.InputError: the runtime is not available, or there is no
            package, or not a good one.
        :raises qinling_exec.exceptions.OverQuota: the project has too much already.
        """
        if values.get("runtime_id"):  # told first, as Qinling does
            with self._database.reader() as connection:
                self._check_runtime(connection, context, values["runtime_id"])
            if package is None:
                raise exceptions.InputError(
                    "Required param is missing. Required: {'package'}, the function's zip as a"
                    " file in a multipart form."
                )
        if package is not None:
            self._storage.check(package, values["code"].get("md5sum"))
        limits = self._holding.of(context.project)
        now = utcnow()
        row = {**values, "id": models.new_id(), "project_id": context.project,
               "created_at": now, "updated_at": now if package else None}
        with self._storage.undone_on_failure(package), self._database.writer() as connection:
            if values.get("runtime_id"):
                self._check_runtime(connection, context, values["runtime_id"])
            if package is not None:
                row["package"] = self._storage.keep(connection, package)
                row["code"] = {**row["code"], "md5sum": package.md5}
            connection.execute(sa.insert(_table), {**row, "code": json.dumps(row["code"])})
            self._holding.check(connection, context.project, limits, functions=1,
                                size=package.size if package else 0)
            return find(connection, context, row["id"])

    def get(self, context: RequestContext, function_id: str) -> Function:
        """Return a function. :raises qinling_exec.exceptions.NotFound: there is none."""
        with self._database.reader() as connection:
            return find(connection, context, function_id)

    def list(self, context: RequestContext, query: scope.Query) -> scope.Slice[Function]:
        """Return a page of functions."""
        with self._database.reader() as connection:
            scoped = scope.listed(_table, context, query)
            return scope.fetch(connection, _table, query, scoped, _build)

    def open_package(self, function: Function) -> BinaryIO:
        """Open a function's package for reading; the caller closes it."""
        if function.package is None:
            raise exceptions.MethodNotAllowed("Download image function is not allowed.")
        return self._storage.open(
            function.package,
            f"Package of function {function.id} for project {function.project_id} not found.",
        )

    def update(self, context: RequestContext, function_id: str, values: dict[str, Any],
               package: Incoming | None) -> Function:
        """Change a function; workers of the old shape take no new run.

        :raises qinling_exec.exceptions.InputError: the change does not fit the function's kind.
        :raises qinling_exec.exceptions.OverQuota: the package is too much for the project.
        """
        with self._database.reader() as connection:
            before = find(connection, context, function_id)
        limits = self._holding.of(before.project_id) if package is not None else {}
        if package is not None:
            # The unchanged md5sum is refused before the package is looked at, as Qinling does.
            self._check_code(before, values.get("code", {}), package)
            self._storage.check(package, values.get("code", {}).get("md5sum"))
        with self._storage.undone_on_failure(package), self._database.writer() as connection:
            before = find(connection, context, function_id)
            heavy = package is not None or not set(values) <= _LIGHT
            code = values.pop("code", {})
            if heavy:
                self._check_code(before, code, package)
            if package is not None:
                values["package"] = self._storage.keep(connection, package)
                values["code"] = json.dumps({**before.code, "md5sum": package.md5})
            connection.execute(
                sa.update(_table).where(_table.c.id == function_id)
                .values(**values, updated_at=utcnow())
            )
            if package is not None:
                self._holding.check(
                    connection, before.project_id, limits, functions=0,
                    size=package.size - self._storage.size(connection, before.package))
            after = find(connection, context, function_id)
            if heavy:
                self._workers.detach(connection, function_id, None if _reshaped(before, after)
                                     else 0)
        self._storage.release(before.package)
        self._workers.wakeup.ring()
        return after

    def delete(self, context: RequestContext, function_id: str) -> None:
        """Delete a function with its versions and their packages; executions stay.

        :raises qinling_exec.exceptions.NotAllowed: aliases name it, or it is another project's.
        """
        with self._database.writer() as connection:
            function = find(connection, context, function_id)
            aliased = sa.select(_aliases.c.id).where(_aliases.c.function_id == function_id)
            if connection.execute(aliased.limit(1)).first():
                raise exceptions.NotAllowed(
                    "The function is still associated with function alias(es)."
                )
            if function.project_id != context.project:
                raise exceptions.NotAllowed("Function can only be deleted by its owner.")
            held = sa.select(_versions.c.package).where(_versions.c.function_id == function_id)
            packages = {function.package, *connection.execute(held).scalars()}
            self._workers.detach(connection, function_id, None)
            connection.execute(sa.delete(_table).where(_table.c.id == function_id))
        for package in packages:
            self._storage.release(package)
        self._workers.wakeup.ring()

    def _check_runtime(self, connection: sa.Connection, context: RequestContext,
                       runtime_id: str) -> None:
        row = connection.execute(
            sa.select(_runtimes.c.status).where(
                _runtimes.c.id == runtime_id,
                sa.or_(scope.own(_runtimes, context), _runtimes.c.is_public),
                _runtimes.c.status != runtimes.DELETING,
            )
        ).first()
        if row is None:
            raise exceptions.NotFound(f"Runtime not found [id={runtime_id}]")
        if row.status != runtimes.AVAILABLE:
            raise exceptions.InputError(f"Runtime {runtime_id} is not available.")

    def _check_code(self, before: Function, code: dict[str, Any],
                    package: Incoming | None) -> None:
        if code.get("source") not in (None, before.code["source"]):
            raise exceptions.InputError("The function code type can not be changed.")
        if before.code["source"] == IMAGE:
            raise exceptions.InputError("The image type function code can not be changed.")
        md5 = code.get("md5sum")
        if package is None and md5 not in (None, before.code.get("md5sum")):
            raise exceptions.InputError(
                "Invalid input for field/attribute code. The md5sum of another package was given"
                " without that package: send it in the form field 'package'."
            )
        if package is not None and md5 is not None and md5 == before.code.get("md5sum"):
            raise exceptions.InputError("The function code checksum is not changed.")


def _reshaped(before: Function, after: Function) -> bool:
    """Tell whether the change concerns the workers of versions too, which keep their package."""
    names = ("cpu", "memory_size", "entry")
    return any(getattr(before, name) != getattr(after, name) for name in names)
