# SPDX-License-Identifier: Apache-2.0
"""Accepting an execution: what it is to run, whether it may, and its first record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions, metrics
from qinling_exec.catalogue import aliases
from qinling_exec.context import RequestContext
from qinling_exec.db import models
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.db.turns import Turns
from qinling_exec.executions import arguments, records, states, targets
from qinling_exec.executions.idempotency import Key, Keys, Taken
from qinling_exec.executions.quotas import Quotas
from qinling_exec.executions.records import Execution
from qinling_exec.executions.rests import Rests
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator import workers

#: Requests that are worked on at once; the others wait in line, projects in turns. An interpreter
#: does one thing at a time: with all at once, any of a project's fifty threads may come between
#: two steps of another's only one. More than one, as a transaction waits for the database.
_AT_ONCE = 3
#: Seconds in line after which a request goes on all the same: the database is slow, or away.
_PATIENCE = 0.25
#: Seconds after which what is not stored yet is refused. With a statement that takes seconds its
#: caller would go away before it has an answer, and others would wait for the locks.
_TOO_LATE = 10.0

_functions = models.Function.__table__
_versions = models.FunctionVersion.__table__


def _counting(table: sa.Table, *which: sa.ColumnElement[bool]) -> sa.Update:
    return sa.update(table).where(*which).values(count=table.c.count + 1,
                                                 updated_at=sa.bindparam("now"))


_COUNT_FUNCTION = _counting(_functions, _functions.c.id == sa.bindparam("function"))
_COUNT_VERSION = _counting(_versions, _versions.c.function_id == sa.bindparam("function"),
                           _versions.c.version_number == sa.bindparam("number"))


@dataclass(frozen=True)
class Request:
    """What a client asks to be run; ``alias`` wins over ``function_id``."""

    function_id: str | None = None
    function_alias: str | None = None
    function_version: int = 0
    input: str | None = None
    description: str | None = None
    sync: bool = True
    id: str | None = None
    #: Of the client's own: the same request under the same key is carried out once.
    idempotency_key: str | None = None
    #: By the monotonic clock, in seconds.
    came_at: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True)
class Claim:
    """What makes an execution a runner's own from its first moment."""

    execution_id: str
    runner_id: str
    worker: str


@dataclass(frozen=True)
class Plan:
    """What a request is to run, and the workers that are warm for it."""

    target: Target
    warm: Sequence[workers.Worker]


class Acceptance:
    """Checks requests and stores executions.

    :param runs_images: whether functions made of an image can run here.
    """

    def __init__(self, database: Database, keys: Keys, quotas: Quotas, *,
                 runs_images: bool) -> None:
        self._database = database
        self._keys = keys
        self._quotas = quotas
        self._runs_images = runs_images
        self._turns = Turns(_AT_ONCE)
        self.rests = Rests()

    def plan(self, context: RequestContext, request: Request) -> Plan | Execution:
        """Return what is to be done, or the execution when the request is a repeated one.

        :raises qinling_exec.exceptions.NotFound: the alias, function or version is not there.
        :raises qinling_exec.exceptions.Conflict: the function's runtime is not available, or the
            idempotency key was used for something else.
        :raises qinling_exec.exceptions.InputError: the function can't run here.
        """
        with self._turns.one(_PATIENCE), self._database.reader() as connection:
            _check_time(request)  # to connect may have taken long
            if request.idempotency_key is not None:
                earlier = self._keys.find(connection, _key(context, request))
                if earlier is not None:
                    return _repeated(connection, context, earlier)
            target = self._resolve(connection, context, request)
            ready = workers.ready(connection, target.function_id, target.version)
            return Plan(target, [worker for worker in ready
                                 if worker.fingerprint == target.fingerprint])

    def store(self, context: RequestContext, request: Request, target: Target,
              claim: Claim | None = None) -> Execution | None:
        """Store an execution that is accepted.

        :param claim: who has begun it; None: it waits in the queue.
        :returns: None when the same request came in at the same moment: plan again.
        :raises qinling_exec.exceptions.TooManyRequests: too many wait, or run, already.
        :raises qinling_exec.exceptions.Unavailable: the database took so long until now that the
            caller would soon give up: nothing was stored.
        """
        with self._turns.one(_PATIENCE):
            return self._store(context, request, target, claim)

    def _store(self, context: RequestContext, request: Request, target: Target,
               claim: Claim | None) -> Execution | None:
        _check_time(request)
        claimed = claim is not None
        may_run = self._quotas.check(context.project, sync=request.sync, queued=not claimed)
        now = utcnow()
        execution = Execution(
            id=claim.execution_id if claim else request.id or models.new_id(),
            function_id=target.function_id, function_version=target.version,
            function_alias=request.function_alias or None,
            description=request.description, status=states.RUNNING, sync=request.sync,
            project_id=context.project, created_at=now, updated_at=None,
            started_at=now if claimed else None, finished_at=None, attempts=int(claimed),
            request_id=context.request_id, input=request.input,
        )
        row = {name: value for name, value in vars(execution).items()
               if name not in ("input", "result")}
        row["global_request_id"] = context.global_request_id
        if claim is not None:
            row |= {"runner_id": claim.runner_id, "worker": claim.worker}

        def insert(connection: sa.Connection) -> bool:
            _check_time(request)
            if request.idempotency_key is not None:
                self._keys.insert(connection, _key(context, request), execution.id)
            if request.id is not None:
                _refuse_duplicate(connection, request.id)
            records.insert(connection, row, request.input)
            _count(connection, target)
            if claimed:
                self._quotas.settle(connection, context.project, may_run)
            return True

        try:
            self._database.transact(insert, lambda connection: _is_stored(connection, execution))
        except Taken:
            self._keys.forget(_key(context, request))
            return None
        self._quotas.added(context.project, queued=not claimed)
        self.rests.accepted(context.project)
        if claimed:
            metrics.CLAIMS.labels("api").inc()
        return execution

    def _resolve(self, connection: sa.Connection, context: RequestContext,
                 request: Request) -> Target:
        function_id, version = request.function_id or "", request.function_version
        if request.function_alias:
            alias = aliases.find(connection, context, request.function_alias)
            function_id, version = alias.function_id, alias.function_version
        target = targets.resolve(connection, context, function_id, version)
        if target.package is None and not self._runs_images:
            raise exceptions.InputError(
                f"Function {function_id} is made of a container image. That needs the Kubernetes"
                " orchestrator; this service runs functions as local processes."
            )
        if target.package is None:
            arguments.of_image(request.input)  # refused now, not when it is its turn
        return target


def _check_time(request: Request) -> None:
    if time.monotonic() - request.came_at > _TOO_LATE:
        raise exceptions.Unavailable("The database is too slow: nothing was stored."
                                     " Try again later.")


def _is_stored(connection: sa.Connection, execution: Execution) -> bool | None:
    """Tell whether it was this request that stored an execution, None when it was not."""
    query = sa.select(records.table.c.id).where(
        records.table.c.id == execution.id, records.table.c.created_at == execution.created_at)
    return True if connection.execute(query.with_for_update()).first() else None


def _key(context: RequestContext, request: Request) -> Key:
    assert request.idempotency_key is not None
    asked = replace(request, idempotency_key=None)
    content = [getattr(asked, each.name) for each in fields(asked) if each.compare]
    return Key(context.project, request.idempotency_key, content)


def _repeated(connection: sa.Connection, context: RequestContext, execution_id: str) -> Execution:
    try:
        return records.find(connection, context, execution_id)
    except exceptions.NotFound as error:
        raise exceptions.Conflict(
            f"Execution {execution_id}, which was made under this Idempotency-Key, was deleted."
            " It is not run a second time: use a new key."
        ) from error


def _count(connection: sa.Connection, target: Target) -> None:
    """Count an execution of a function, or of its version, as Qinling does."""
    connection.execute(_COUNT_VERSION if target.version else _COUNT_FUNCTION, {
        "function": target.function_id, "number": target.version, "now": utcnow(),
    })


def _refuse_duplicate(connection: sa.Connection, execution_id: str) -> None:
    known: Any = connection.execute(
        sa.select(records.table.c.id).where(records.table.c.id == execution_id)
    ).first()
    if known is not None:
        raise exceptions.InputError("Duplicate entry for Execution: ['']")
