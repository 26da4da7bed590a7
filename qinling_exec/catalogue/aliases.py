# SPDX-License-Identifier: Apache-2.0
"""Aliases: names of a project's own for a function and a version of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.catalogue import functions
from qinling_exec.context import RequestContext
from qinling_exec.db import models, scope
from qinling_exec.db.engine import Database, utcnow

_table = models.FunctionAlias.__table__


@dataclass(frozen=True)
class Alias:
    """An alias as it is stored."""

    id: str
    name: str
    description: str | None
    function_id: str
    function_version: int
    project_id: str
    created_at: datetime
    updated_at: datetime | None


def _build(row: sa.Row[Any]) -> Alias:
    return Alias(**{name: row._mapping[name] for name in Alias.__dataclass_fields__})


def find(connection: sa.Connection, context: RequestContext, name: str) -> Alias:
    """Return an alias of the caller's project: names mean something only there.

    :raises qinling_exec.exceptions.NotFound: there is none.
    """
    query = sa.select(_table).where(_table.c.name == name, scope.own(_table, context))
    row = connection.execute(query).first()
    if row is None:
        raise exceptions.NotFound(f"FunctionAlias not found [name={name}]")
    return _build(row)


class Aliases:
    """The catalogue of aliases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, context: RequestContext, values: dict[str, Any]) -> Alias:
        """Store an alias.

        The version that it names need not exist yet.

        :raises qinling_exec.exceptions.InputError: the name or the target has an alias already.
        :raises qinling_exec.exceptions.NotFound: the function is not there.
        """
        with self._database.writer() as connection:
            functions.find(connection, context, values["function_id"])
            row = {"id": models.new_id(), **values, "project_id": context.project,
                   "created_at": utcnow()}
            self._refuse_duplicates(connection, context, row)
            connection.execute(sa.insert(_table), row)
            return find(connection, context, row["name"])

    def get(self, context: RequestContext, name: str) -> Alias:
        """Return an alias. :raises qinling_exec.exceptions.NotFound: there is none."""
        with self._database.reader() as connection:
            return find(connection, context, name)

    def list(self, context: RequestContext, query: scope.Query) -> scope.Slice[Alias]:
        """Return a page of aliases."""
        with self._database.reader() as connection:
            scoped = scope.listed(_table, context, query)
            return scope.fetch(connection, _table, query, scoped, _build)

    def update(self, context: RequestContext, name: str, values: dict[str, Any]) -> Alias:
        """Point an alias elsewhere, or describe it anew.

        :raises qinling_exec.exceptions.InputError: the new target has an alias already.
        """
        with self._database.writer() as connection:
            alias = find(connection, context, name)
            if "function_id" in values:
                functions.find(connection, context, values["function_id"])
            row = {"id": alias.id, "name": name, "function_id": alias.function_id,
                   "function_version": alias.function_version, **values}
            self._refuse_duplicates(connection, context, row)
            connection.execute(
                sa.update(_table).where(_table.c.id == alias.id)
                .values(**values, updated_at=utcnow())
            )
            return find(connection, context, name)

    def delete(self, context: RequestContext, name: str) -> None:
        """Delete an alias. :raises qinling_exec.exceptions.NotFound: there is none."""
        with self._database.writer() as connection:
            alias = find(connection, context, name)
            connection.execute(sa.delete(_table).where(_table.c.id == alias.id))

    def _refuse_duplicates(self, connection: sa.Connection, context: RequestContext,
                           row: dict[str, Any]) -> None:
        """Find what would break a unique constraint, and name it as Qinling did."""
        target = sa.and_(_table.c.function_id == row["function_id"],
                         _table.c.function_version == row.get("function_version", 0))
        others = connection.execute(
            sa.select(_table.c.id, _table.c.name).where(
                scope.own(_table, context), _table.c.id != row["id"],
                sa.or_(_table.c.name == row["name"], target),
            )
        ).all()
        if any(other.name == row["name"] for other in others):
            columns = "aliases_name_project_id"
        elif others:
            columns = "aliases_function_id_function_version_project_id"
        else:
            return
        raise exceptions.InputError(f"Duplicate entry for function_aliases: ['{columns}']")
