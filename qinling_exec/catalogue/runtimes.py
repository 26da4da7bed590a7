# SPDX-License-Identifier: Apache-2.0
"""Runtimes: the environments that functions run in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.context import RequestContext
from qinling_exec.db import models, scope
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.orchestrator.workers import LEAVING

CREATING, AVAILABLE, ERROR = "creating", "available", "error"
UPGRADING, DELETING = "upgrading", "deleting"

_table = models.Runtime.__table__
_functions = models.Function.__table__
_workers = models.Worker.__table__


@dataclass(frozen=True)
class Runtime:
    """A runtime as it is stored."""

    id: str
    name: str | None
    image: str
    description: str | None
    is_public: bool
    trusted: bool
    status: str
    status_reason: str | None
    project_id: str
    created_at: datetime
    updated_at: datetime | None
    pool_total: int
    pool_available: int


def _build(row: sa.Row[Any]) -> Runtime:
    return Runtime(**{name: row._mapping[name] for name in Runtime.__dataclass_fields__})


class Runtimes:
    """The catalogue of runtimes; the engine makes their pools.

    :param wakeup: rung when there is work for the engine.
    """

    def __init__(self, database: Database, wakeup: Wakeup) -> None:
        self._database = database
        self._wakeup = wakeup

    def create(self, context: RequestContext, values: dict[str, Any]) -> Runtime:
        """Store a runtime; the engine makes its pool and then its status ``available``."""
        row = {"id": models.new_id(), **values, "status": CREATING, "created_at": utcnow(),
               "project_id": context.project}
        with self._database.writer() as connection:
            if connection.execute(sa.select(_table.c.id).where(_table.c.id == row["id"])).first():
                raise exceptions.InputError("Duplicate entry for Runtime: ['']")
            connection.execute(sa.insert(_table), row)
            runtime = self._get(connection, context, row["id"])
        self._wakeup.ring()
        return runtime

    def get(self, context: RequestContext, runtime_id: str) -> Runtime:
        """Return a runtime of the caller's project or a public one.

        :raises qinling_exec.exceptions.NotFound: there is none.
        """
        with self._database.reader() as connection:
            return self._get(connection, context, runtime_id)

    def list(self, context: RequestContext, query: scope.Query) -> scope.Slice[Runtime]:
        """Return a page of the runtimes that the caller's functions may use."""
        with self._database.reader() as connection:
            return scope.fetch(connection, _table, query, _usable(context), _build)

    def update(self, context: RequestContext, runtime_id: str,
               values: dict[str, Any]) -> Runtime:
        """Change name, description or image; another image has the pool made anew.

        :raises qinling_exec.exceptions.Conflict: a new image for a runtime that is not available.
        :raises qinling_exec.exceptions.NotAllowed: a new image while functions have workers.
        """
        with self._database.writer() as connection:
            runtime = self._get(connection, context, runtime_id)
            image = values.get("image")
            if image is not None:
                if runtime.status != AVAILABLE:
                    raise exceptions.Conflict(f"Runtime {runtime_id} is not available.")
                if image != runtime.image:
                    self._refuse_if_working(connection, runtime_id)
                    values = {**values, "status": UPGRADING}
            connection.execute(
                sa.update(_table).where(_table.c.id == runtime_id)
                .values(**values, updated_at=utcnow())
            )
            runtime = self._get(connection, context, runtime_id)
        self._wakeup.ring()
        return runtime

    def delete(self, context: RequestContext, runtime_id: str) -> None:
        """Let a runtime go; the engine ends its pool and removes the row.

        :raises qinling_exec.exceptions.NotAllowed: functions are made for it.
        """
        with self._database.writer() as connection:
            self._get(connection, context, runtime_id)
            used = sa.select(_functions.c.id).where(_functions.c.runtime_id == runtime_id).limit(1)
            if connection.execute(used).first():
                raise exceptions.NotAllowed(f"Runtime {runtime_id} is still in use.")
            connection.execute(
                sa.update(_table).where(_table.c.id == runtime_id)
                .values(status=DELETING, updated_at=utcnow())
            )
        self._wakeup.ring()

    def _get(self, connection: sa.Connection, context: RequestContext,
             runtime_id: str) -> Runtime:
        row = connection.execute(
            sa.select(_table).where(_table.c.id == runtime_id, *_usable(context))
        ).first()
        if row is None:
            raise exceptions.NotFound(f"Runtime not found [id={runtime_id}]")
        return _build(row)

    def _refuse_if_working(self, connection: sa.Connection, runtime_id: str) -> None:
        joined = _workers.join(_functions, _functions.c.id == _workers.c.function_id)
        working = (
            sa.select(_workers.c.name).select_from(joined)
            .where(_functions.c.runtime_id == runtime_id, _workers.c.state.not_in(LEAVING))
            .limit(1)
        )
        if connection.execute(working).first():
            raise exceptions.NotAllowed(f"Runtime {runtime_id} is still in use by functions.")


def _usable(context: RequestContext) -> list[sa.ColumnElement[bool]]:
    """Own and public ones; what is being deleted is gone for everybody."""
    return [
        sa.or_(scope.own(_table, context), _table.c.is_public),
        _table.c.status != DELETING,
    ]
