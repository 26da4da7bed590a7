# SPDX-License-Identifier: Apache-2.0
"""The queue of executions: the rows themselves, claimed by compare-and-set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from qinling_exec.db import clock
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.executions import records, states

#: Versions of functions that one look at the queue takes up.
_GROUPS = 200

_Row = TypeVar("_Row", bound=tuple[Any, ...])
_table = records.table
#: The index of the queue. Its rows come and go too fast for statistics: each statement here is
#: written so that no other way is better even by wrong ones, and is for a transaction of
#: :class:`~qinling_exec.db.engine.Database` that is ``in_order``.
_INDEX = "ix_executions_running"
#: PostgreSQL takes an index's order for sure only when all of it is asked for, as IS NULL is no
#: equality to it. MariaDB sorts when more is asked for than what the conditions leave open.
_WHOLE_ORDER = (_table.c.runner_id, _table.c.function_id, _table.c.function_version,
                _table.c.created_at, _table.c.id)
_AGE = (_table.c.created_at, _table.c.id)


class _is_running(FunctionElement[Any]):
    """That an execution has not ended, in words that let :data:`_INDEX` be used."""

    inherit_cache = True
    type = sa.types.NullType()  # of a Boolean, databases without that type would get "= 1"


@compiles(_is_running)
def _compile_is_running(element: _is_running, compiler: Any, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} = '{states.RUNNING}'"


@compiles(_is_running, "postgresql")
def _compile_is_running_there(element: _is_running, compiler: Any, **options: Any) -> str:
    # The status is a text and no parameter, or PostgreSQL may not see that the partial index
    # fits. Once it has seen that, it forgets the condition, and with it the first column of the
    # index: it would read all of it. LIKE is an equality that it keeps.
    column = compiler.process(element.clauses, **options)
    return f"{column} = '{states.RUNNING}' AND {column} LIKE '{states.RUNNING}'"


_running = _is_running(_table.c.status)
_queued = (_running, _table.c.runner_id.is_(None))
_due = sa.or_(_table.c.retry_at.is_(None), _table.c.retry_at <= clock.now())
#: Since when it waits: since it came, or since another attempt may be begun.
_since = sa.func.coalesce(_table.c.retry_at, _table.c.created_at)
_held = (_table.c.status == sa.literal_column(f"'{states.RUNNING}'"), _table.c.runner_id > "")


@dataclass(frozen=True)
class Group:
    """The executions of one version of a function that wait.

    :param project_id: whose the longest waiting one is.
    :param oldest: when that one came.
    """

    function_id: str
    version: int
    project_id: str
    oldest: datetime


@dataclass(frozen=True)
class Running:
    """How many executions of one version, of one project, a runner has on one worker."""

    runner_id: str
    function_id: str
    version: int
    project_id: str
    worker: str | None
    count: int


@dataclass(frozen=True)
class Claimed:
    """An execution that this runner now has to run, on a worker of this name."""

    fence: states.Fence
    worker: str | None
    input: str | None
    request_id: str | None
    global_request_id: str | None
    project_id: str
    sync: bool
    started_at: datetime
    created_at: datetime


class Queue:
    """What waits for a worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups(self, connection: sa.Connection) -> list[Group]:
        """Return the versions that have executions waiting: each project's longest waiting one
        first, then the second of each, and so on; among these the longest waiting first.

        It leaps over the index from version to version: what it costs depends on how many
        versions there are, and not on how many executions.
        """
        return [Group(*row) for row in
                connection.execute(_GROUPS_QUERY[self._database.kind])]

    def running(self, connection: sa.Connection) -> list[Running]:
        """Return what runs, by all processes."""
        columns = (_table.c.runner_id, _table.c.function_id, _table.c.function_version,
                   _table.c.project_id, _table.c.worker)
        query = _by_index(sa.select(*columns, sa.func.count()).where(*_held).group_by(*columns))
        return [Running(*row) for row in connection.execute(query)]

    def waiting(self, connection: sa.Connection, groups: Sequence[Group],
                most: int) -> dict[Group, int]:
        """Count each group's executions that may be begun now, up to ``most``."""
        if not groups:
            return {}
        counts = (sa.select(sa.literal(number), sa.func.count()).select_from(
            _oldest(self._database.kind, group, None, most).subquery(f"waiting_{number}"))
            for number, group in enumerate(groups))
        return {groups[number]: count
                for number, count in connection.execute(sa.union_all(*counts))}

    def claim(self, runner_id: str, group: Group,
              workers: Sequence[str | None]) -> list[Claimed]:
        """Take the oldest waiting executions of a group, one for each worker's name."""
        with self._database.writer(in_order=True) as connection:
            query = _oldest(self._database.kind, group, None, len(workers))
            ids = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
            if ids:
                _take(connection, runner_id, dict(zip(ids, workers, strict=False)))
            return _taken(connection, runner_id, ids)

    def end(self, group: Group, outcome: states.Outcome, most: int,
            before: datetime | None = None) -> list[str]:
        """End the oldest waiting executions of a group, and return their ids; it is no attempt.

        :param before: only those that have waited since before that time.
        """
        with self._database.writer(in_order=True) as connection:
            query = _oldest(self._database.kind, group, before, most)
            ids = connection.execute(query.with_for_update(skip_locked=True)).scalars().all()
            return [one for one in ids if records.end_waiting(connection, one, outcome)]

    def put_back(self, fence: states.Fence, started_at: datetime | None) -> bool:
        """Return an execution that was not started; the attempt does not count.

        One that somebody wants to be cancelled ends here.

        :param started_at: of its claim. The next one may have the same fence, and what is done
            once more, because nobody knew whether it was done, must not touch that.
        """
        with self._database.writer() as connection:
            result = connection.execute(
                sa.update(_table)
                .where(*records.held_by(fence), _table.c.started_at == started_at,
                       _table.c.cancel_requested_at.is_(None))
                .values(runner_id=None, worker=None, started_at=None,
                        attempts=fence.attempt - 1,
                        # It does not wait since it came, if it was begun before.
                        retry_at=sa.func.coalesce(_table.c.retry_at, started_at)
                        if fence.attempt > 1 else None)
            )
            if result.rowcount:
                return True
            wanted = connection.execute(sa.select(_table.c.cancel_requested_at).where(
                *records.held_by(fence), _table.c.started_at == started_at)).scalar()
            if wanted is not None:
                records.end(connection, fence, states.cancelled())
            return False


def _by_index(query: sa.Select[_Row]) -> sa.Select[_Row]:
    """Name the index to MySQL and MariaDB, which would choose by what they guess of the rows."""
    return query.with_hint(_table, f"FORCE INDEX ({_INDEX})", "mysql")


def _oldest(kind: str, group: Group, before: datetime | None,
            count: int) -> sa.Select[tuple[str]]:
    """Return the query of a group's executions that have waited the longest."""
    query = sa.select(_table.c.id).where(*_queued, *_of(group), _due)
    if before is not None:
        query = query.where(_since < before)
    order = _WHOLE_ORDER if kind == "postgresql" else _AGE
    return _by_index(query.order_by(*order).limit(count))


def _of(group: Group) -> tuple[sa.ColumnElement[bool], ...]:
    return (_table.c.function_id == group.function_id,
            _table.c.function_version == group.version)


def _take(connection: sa.Connection, runner_id: str, worker_of: dict[str, str | None]) -> None:
    """Take executions; alone enough where SKIP LOCKED does not exist (SQLite, Galera).

    :param worker_of: workers by the executions' ids. Many have one statement.
    """
    names = set(worker_of.values())
    worker = names.pop() if len(names) == 1 else sa.case(worker_of, value=_table.c.id)
    connection.execute(
        sa.update(_table)
        .where(_table.c.id.in_(list(worker_of)), records.NOT_ENDED,
               _table.c.runner_id.is_(None))
        .values(runner_id=runner_id, worker=worker, attempts=_table.c.attempts + 1,
                started_at=utcnow())
    )


def _taken(connection: sa.Connection, runner_id: str, ids: list[str]) -> list[Claimed]:
    """Return what was taken of some executions that waited."""
    query = sa.select(_table).where(_table.c.id.in_(ids), records.NOT_ENDED,
                                    _table.c.runner_id == runner_id)
    rows = sorted(connection.execute(query), key=lambda row: (row.created_at, row.id))
    inputs = records.read_inputs(connection, [row.id for row in rows])
    return [
        Claimed(states.Fence(row.id, runner_id, row.attempts), row.worker, inputs.get(row.id),
                row.request_id, row.global_request_id, row.project_id, row.sync, row.started_at,
                row.created_at)
        for row in rows
    ]


def _first(kind: str, column: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool],
           by: Sequence[sa.ColumnElement[Any]] = ()) -> sa.ScalarSelect[Any]:
    """Return a subquery that reads one entry of the index: its first under some conditions."""
    order = _WHOLE_ORDER if kind == "postgresql" else by or [column]
    query = sa.select(column).where(*_queued, *conditions).order_by(*order)
    return _by_index(query.limit(1)).scalar_subquery()


def _versions_by_leaps(kind: str) -> sa.FromClause:
    """Return the versions that have executions waiting, each found behind the one before."""
    function, version = _table.c.function_id, _table.c.function_version
    ids = sa.select(_first(kind, function).label("id")).cte("functions_waiting", recursive=True)
    ids = ids.union_all(
        sa.select(_first(kind, function, function > ids.c.id)).where(ids.c.id.is_not(None))
    )
    pairs = sa.select(
        ids.c.id.label("id"), _first(kind, version, function == ids.c.id).label("version")
    ).where(ids.c.id.is_not(None)).cte("versions_waiting", recursive=True)
    return pairs.union_all(sa.select(
        pairs.c.id, _first(kind, version, function == pairs.c.id, version > pairs.c.version)
    ).where(pairs.c.version.is_not(None)))


def _versions_by_groups() -> sa.FromClause:
    """Return the same for MariaDB, which leaps by itself when told to group by the whole index.

    In a subquery that depends on another row it would read all that comes before.
    """
    return _by_index(sa.select(
        _table.c.function_id.label("id"), _table.c.function_version.label("version"),
        _table.c.status, _table.c.runner_id,
    ).where(*_queued).distinct()).subquery("versions_waiting")


def _groups_query(kind: str) -> sa.Select[tuple[str, int, str, datetime]]:
    """Build the query of :meth:`Queue.groups`. :param kind: of database."""
    pairs = _versions_by_groups() if kind == "mysql" else _versions_by_leaps(kind)
    mine = (_table.c.function_id == pairs.c.id, _table.c.function_version == pairs.c.version)
    project, oldest = (_first(kind, column, *mine, _due, by=_AGE)
                       for column in (_table.c.project_id, _table.c.created_at))
    found = sa.select(pairs.c.id, pairs.c.version, project.label("project_id"),
                      oldest.label("oldest")).where(pairs.c.version.is_not(None)).subquery()
    by = (found.c.oldest, found.c.id, found.c.version)
    # The first of each project, then the second of each: one may have any number of them waiting.
    rank = sa.func.row_number().over(partition_by=found.c.project_id, order_by=by)
    return (
        sa.select(found.c.id, found.c.version, found.c.project_id, found.c.oldest)
        .where(found.c.oldest.is_not(None)).order_by(rank, *by).limit(_GROUPS)
    )


_GROUPS_QUERY = {kind: _groups_query(kind) for kind in ("sqlite", "postgresql", "mysql")}
