# SPDX-License-Identifier: Apache-2.0
"""Versions of functions: packages kept as they were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.catalogue import functions
from qinling_exec.catalogue.storage import Storage
from qinling_exec.context import RequestContext
from qinling_exec.db import listing, models, scope
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.orchestrator.workers import Workers

_table = models.FunctionVersion.__table__
_functions = models.Function.__table__
_aliases = models.FunctionAlias.__table__


@dataclass(frozen=True)
class Version:
    """A version as it is stored."""

    id: str
    description: str | None
    function_id: str
    version_number: int
    count: int
    project_id: str
    created_at: datetime
    updated_at: datetime | None
    package: str


def _build(row: sa.Row[Any]) -> Version:
    return Version(**{name: row._mapping[name] for name in Version.__dataclass_fields__})


def find(connection: sa.Connection, context: RequestContext, function_id: str, number: int, *,
         own: bool = False) -> Version:
    """Return a version that the caller may reach.

    :raises qinling_exec.exceptions.NotFound: there is none.
    """
    mine = [scope.own(_table, context)] if own else scope.visible(_table, context)
    query = sa.select(_table).where(
        _table.c.function_id == function_id, _table.c.version_number == number, *mine
    )
    row = connection.execute(query).first() if 0 < number <= models.LARGEST_INTEGER else None
    if row is None:
        raise exceptions.NotFound(
            f"FunctionVersion not found [function_id={function_id}, version_number={number}]"
        )
    return _build(row)


class Versions:
    """The catalogue of versions.

    :param most: how many versions a function may have.
    """

    def __init__(self, database: Database, storage: Storage, workers: Workers,
                 most: int) -> None:
        self._database = database
        self._storage = storage
        self._workers = workers
        self._most = most

    def create(self, context: RequestContext, function_id: str, description: str | None,
               force: bool = False) -> Version:
        """Keep the function's package as a new version.

        :param force: also when the package is that of the latest version.
        :raises qinling_exec.exceptions.NotAllowed: nothing changed, too many, or an image.
        """
        with self._database.writer() as connection:
            self._lock(connection, function_id)
            function = functions.find(connection, context, function_id, own=True)
            if function.package is None:
                raise exceptions.NotAllowed(
                    "Function versioning only allowed for package type function."
                )
            self._check(connection, function, force)
            number = function.latest_version + 1
            row = {"id": models.new_id(), "project_id": function.project_id,
                   "function_id": function_id, "description": description,
                   "version_number": number, "package": function.package,
                   "created_at": utcnow()}
            connection.execute(sa.insert(_table), row)
            self._set_latest(connection, function_id, number)
            return find(connection, context, function_id, number)

    def get(self, context: RequestContext, function_id: str, number: int) -> Version:
        """Return a version. :raises qinling_exec.exceptions.NotFound: there is none."""
        with self._database.reader() as connection:
            return find(connection, context, function_id, number)

    def list(self, context: RequestContext, function_id: str,
             query: scope.Query) -> scope.Slice[Version]:
        """Return a page of a function's versions."""
        with self._database.reader() as connection:
            functions.find(connection, context, function_id)
            scoped = [_table.c.function_id == function_id]
            return scope.fetch(connection, _table, query, scoped, _build)

    def open_package(self, version: Version) -> BinaryIO:
        """Open a version's package for reading; the caller closes it."""
        return self._storage.open(
            version.package,
            f"Package of version {version.version_number} function {version.function_id}"
            f" for project {version.project_id} not found.",
        )

    def delete(self, context: RequestContext, function_id: str, number: int) -> None:
        """Delete a version.

        :raises qinling_exec.exceptions.NotAllowed: an alias points to it.
        """
        with self._database.writer() as connection:
            self._lock(connection, function_id)
            version = find(connection, context, function_id, number, own=True)
            aliased = sa.select(_aliases.c.id).where(
                _aliases.c.function_id == function_id, _aliases.c.function_version == number
            )
            if connection.execute(aliased.limit(1)).first():
                raise exceptions.NotAllowed(
                    "The function version is still associated with alias."
                )
            self._workers.detach(connection, function_id, number)
            connection.execute(sa.delete(_table).where(_table.c.id == version.id))
            function = functions.find(connection, context, function_id)
            if function.latest_version == number:
                self._set_latest(connection, function_id, number - 1)
        self._storage.release(version.package)
        self._workers.wakeup.ring()

    def _lock(self, connection: sa.Connection, function_id: str) -> None:
        """Let one at a time change a function's versions."""
        connection.execute(
            sa.select(_functions.c.id).where(_functions.c.id == function_id).with_for_update()
        )

    def _check(self, connection: sa.Connection, function: functions.Function,
               force: bool) -> None:
        kept = connection.execute(
            sa.select(_table.c.version_number, _table.c.package)
            .where(_table.c.function_id == function.id)
        ).all()
        if len(kept) >= self._most:
            raise exceptions.NotAllowed(
                f"Can not exceed maximum number({self._most}) of versions"
            )
        latest = {row.version_number: row.package for row in kept}.get(function.latest_version)
        if latest == function.package and not force:
            raise exceptions.NotAllowed(
                f"Function package not changed since the latest version {function.latest_version}."
            )

    def _set_latest(self, connection: sa.Connection, function_id: str, number: int) -> None:
        connection.execute(
            sa.update(_functions).where(_functions.c.id == function_id)
            .values(latest_version=number, updated_at=utcnow())
        )


#: Versions are listed by number, as Qinling does.
BY_NUMBER = listing.Page(sort=(("version_number", "asc"), ("id", "asc")))
