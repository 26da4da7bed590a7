# SPDX-License-Identifier: Apache-2.0
"""The queue of executions: the rows themselves, claimed by compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from qinling_exec.db.engine import Database, utcnow
from qinling_exec.executions import records, states

#: Versions of functions that one look at the queue takes up, the longest waiting first.
_GROUPS = 200

_table = records.table
_queued = (_table.c.status == states.RUNNING, _table.c.runner_id.is_(None))


@dataclass(frozen=True)
class Group:
    """The running executions of one version of a function: on workers and queued."""

    function_id: str
    version: int
    active: int
    queued: int


@dataclass(frozen=True)
class Claimed:
    """An execution that this runner now has to run."""

    fence: states.Fence
    input: str | None
    request_id: str | None
    project_id: str


class Queue:
    """What waits for a worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups(self) -> list[Group]:
        """Return the versions that have executions waiting, the longest waiting first."""
        waiting = sa.case((_table.c.runner_id.is_(None), 1), else_=0)
        oldest = sa.func.min(sa.case((_table.c.runner_id.is_(None), _table.c.created_at)))
        query = (
            sa.select(_table.c.function_id, _table.c.function_version, sa.func.count(),
                      sa.func.sum(waiting))
            .where(_table.c.status == states.RUNNING)
            .group_by(_table.c.function_id, _table.c.function_version)
            .having(sa.func.sum(waiting) > 0).order_by(oldest).limit(_GROUPS)
        )
        with self._database.reader() as connection:
            return [Group(row[0], row[1], row[2], int(row[3])) for row in
                    connection.execute(query)]

    def claim(self, runner_id: str, function_id: str, version: int, most: int) -> list[Claimed]:
        """Take up to ``most`` waiting executions of a version, the oldest first."""
        claimed = []
        with self._database.writer() as connection:
            query = (
                sa.select(_table.c.id, _table.c.attempts, _table.c.request_id,
                          _table.c.project_id)
                .where(*_queued, _table.c.function_id == function_id,
                       _table.c.function_version == version)
                .order_by(_table.c.created_at, _table.c.id).limit(most)
                .with_for_update(skip_locked=True)
            )
            rows = connection.execute(query).all()
            inputs = records.read_inputs(connection, [row.id for row in rows])
            for row in rows:
                fence = states.Fence(row.id, runner_id, row.attempts + 1)
                if _take(connection, fence):
                    claimed.append(Claimed(fence, inputs.get(row.id), row.request_id,
                                           row.project_id))
        return claimed

    def put_back(self, fence: states.Fence) -> bool:
        """Return an execution that was not started; the attempt does not count."""
        with self._database.writer() as connection:
            result = connection.execute(
                sa.update(_table)
                .where(_table.c.id == fence.execution_id, _table.c.status == states.RUNNING,
                       _table.c.runner_id == fence.runner_id,
                       _table.c.attempts == fence.attempt)
                .values(runner_id=None, started_at=None, attempts=fence.attempt - 1)
            )
            return bool(result.rowcount)


def _take(connection: sa.Connection, fence: states.Fence) -> bool:
    """Take one execution; alone enough where SKIP LOCKED does not exist (SQLite, Galera)."""
    now = utcnow()
    result = connection.execute(
        sa.update(_table).where(_table.c.id == fence.execution_id, *_queued)
        .values(runner_id=fence.runner_id, attempts=fence.attempt, started_at=now)
    )
    return bool(result.rowcount)
