# SPDX-License-Identifier: Apache-2.0
"""Execution records: how they are stored, read and ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.context import RequestContext
from qinling_exec.db import models, scope
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import states

table = models.Execution.__table__
_inputs = models.ExecutionInput.__table__
_results = models.ExecutionResult.__table__


@dataclass(frozen=True)
class Execution:
    """An execution as it is stored; ``result`` is JSON text."""

    id: str
    function_id: str
    function_version: int
    function_alias: str | None
    description: str | None
    status: str
    sync: bool
    project_id: str
    created_at: datetime
    updated_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    request_id: str | None
    input: str | None = None
    result: str | None = None


_COLUMNS = [name for name in Execution.__dataclass_fields__ if name not in ("input", "result")]


def insert(connection: sa.Connection, row: dict[str, Any], given: str | None) -> None:
    """Store a new execution with its input."""
    connection.execute(sa.insert(table), row)
    if given is not None:
        data = given.encode("utf-8", "surrogatepass")
        connection.execute(sa.insert(_inputs), {"execution_id": row["id"], "data": data})


def find(connection: sa.Connection, context: RequestContext, execution_id: str) -> Execution:
    """Return an execution that the caller may see, with input and result.

    :raises qinling_exec.exceptions.NotFound: there is none.
    """
    scoped = scope.visible(table, context)
    row = connection.execute(sa.select(table).where(table.c.id == execution_id, *scoped)).first()
    if row is None:
        raise exceptions.NotFound(f"Execution not found [id={execution_id}]")
    return complete(connection, [row])[0]


def complete(connection: sa.Connection, rows: Iterable[sa.Row[Any]]) -> list[Execution]:
    """Return rows as executions, with their inputs and results."""
    rows = list(rows)
    ids = [row.id for row in rows]
    inputs, results = read_inputs(connection, ids), _read(connection, _results, ids)
    return [
        Execution(**{name: row._mapping[name] for name in _COLUMNS},
                  input=inputs.get(row.id), result=results.get(row.id))
        for row in rows
    ]


def read_inputs(connection: sa.Connection, ids: list[str]) -> dict[str, str]:
    """Return the inputs of some executions."""
    return _read(connection, _inputs, ids)


def _read(connection: sa.Connection, payload: sa.Table, ids: list[str]) -> dict[str, str]:
    query = sa.select(payload.c.execution_id, payload.c.data)
    rows = connection.execute(query.where(payload.c.execution_id.in_(ids)))
    return {row.execution_id: row.data.decode("utf-8", "surrogatepass") for row in rows}


def end(connection: sa.Connection, fence: states.Fence, outcome: states.Outcome,
        now: datetime | None = None) -> str | None:
    """Give a running execution its terminal state, once.

    :returns: the stored result, or None when the fence does not hold: another runner has the
        execution, it has ended or it was deleted.
    """
    now = now or utcnow()
    changed = connection.execute(
        sa.update(table)
        .where(table.c.id == fence.execution_id, table.c.status == states.RUNNING,
               table.c.runner_id == fence.runner_id, table.c.attempts == fence.attempt)
        .values(status=outcome.status, finished_at=now, updated_at=now)
    )
    if not changed.rowcount:
        return None
    text = json.dumps(outcome.result)
    connection.execute(sa.insert(_results),
                       {"execution_id": fence.execution_id, "data": text.encode()})
    return text
