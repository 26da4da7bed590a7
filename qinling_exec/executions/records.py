# SPDX-License-Identifier: Apache-2.0
"""Execution records: how they are stored, read and ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
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

#: The same as ``status = 'running'``, for executions that are named by their ids. With that one
#: databases prefer an index of what runs to the primary key: it had no rows when they last looked,
#: and has 100,000 when the queue is long.
NOT_ENDED = table.c.status.not_in(sorted(states.ENDED))
#: Built once: building a statement costs as much as executing it, and every execution needs these.
_INSERT, _INSERT_INPUT, _INSERT_RESULT = map(sa.insert, (table, _inputs, _results))
_END = (
    sa.update(table)
    .where(table.c.id == sa.bindparam("execution"), table.c.status == states.RUNNING,
           table.c.runner_id == sa.bindparam("runner"),
           table.c.attempts == sa.bindparam("attempt"))
    .values(status=sa.bindparam("ended"), finished_at=sa.bindparam("now"),
            updated_at=sa.bindparam("now"))
)


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
    connection.execute(_INSERT, row)
    if given is not None:
        data = given.encode("utf-8", "surrogatepass")
        connection.execute(_INSERT_INPUT, {"execution_id": row["id"], "data": data})


def find(connection: sa.Connection, context: RequestContext, execution_id: str) -> Execution:
    """Return an execution that the caller may see, with input and result.

    :raises qinling_exec.exceptions.NotFound: there is none.
    """
    chosen = sa.select(table.c.id).where(table.c.id == execution_id,
                                         *scope.visible(table, context))
    row = connection.execute(whole(chosen.subquery("chosen"))).first()
    if row is None:
        raise exceptions.NotFound(f"Execution not found [id={execution_id}]")
    return build(row)


def whole(chosen: sa.Subquery) -> sa.Select[Any]:
    """Return the query of executions whose ids are chosen, for :func:`build`."""
    return (
        sa.select(*(table.c[name] for name in _COLUMNS), _inputs.c.data.label("input"),
                  _results.c.data.label("result"))
        .join_from(chosen, table, table.c.id == chosen.c.id)
        .outerjoin(_inputs, _inputs.c.execution_id == table.c.id)
        .outerjoin(_results, _results.c.execution_id == table.c.id)
    )


def build(row: sa.Row[Any]) -> Execution:
    """Return a row of :func:`whole` as an execution."""
    values: list[Any] = [*row[:-2], _text(row.input), _text(row.result)]
    return Execution(*values)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "surrogatepass")


def read_inputs(connection: sa.Connection, ids: list[str]) -> dict[str, str]:
    """Return the inputs of some executions."""
    query = sa.select(_inputs.c.execution_id, _inputs.c.data)
    rows = connection.execute(query.where(_inputs.c.execution_id.in_(ids)))
    return {row.execution_id: row.data.decode("utf-8", "surrogatepass") for row in rows}


def held_by(fence: states.Fence) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition that an attempt still owns its execution."""
    return (table.c.id == fence.execution_id, table.c.status == states.RUNNING,
            table.c.runner_id == fence.runner_id, table.c.attempts == fence.attempt)


def end_waiting(connection: sa.Connection, execution_id: str, outcome: states.Outcome,
                scope: Sequence[sa.ColumnElement[bool]] = ()) -> bool:
    """Give an execution that nobody runs its terminal state; tell whether that was so.

    :param scope: further conditions.
    """
    now = utcnow()
    changed = connection.execute(
        sa.update(table)
        .where(table.c.id == execution_id, NOT_ENDED, table.c.runner_id.is_(None), *scope)
        .values(status=outcome.status, finished_at=now, updated_at=now)
    )
    if not changed.rowcount:
        return False
    text = json.dumps(outcome.result)
    connection.execute(_INSERT_RESULT, {"execution_id": execution_id, "data": text.encode()})
    return True


def end(connection: sa.Connection, fence: states.Fence, outcome: states.Outcome,
        now: datetime | None = None) -> str | None:
    """Give a running execution its terminal state, once.

    :returns: the stored result, or None when the fence does not hold: another runner has the
        execution, it has ended or it was deleted.
    """
    now = now or utcnow()
    changed = connection.execute(_END, {
        "execution": fence.execution_id, "runner": fence.runner_id, "attempt": fence.attempt,
        "ended": outcome.status, "now": now,
    })
    if not changed.rowcount:
        return None
    text = json.dumps(outcome.result)
    connection.execute(_INSERT_RESULT,
                       {"execution_id": fence.execution_id, "data": text.encode()})
    return text
