# SPDX-License-Identifier: Apache-2.0
"""The execution controller: submit, get, list, delete and finish."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.catalogue import aliases
from qinling_exec.context import RequestContext
from qinling_exec.db import listing, models, scope
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.executions import dispatch, logs, records, states, targets
from qinling_exec.executions.dispatch import Dispatch
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.queue import Queue
from qinling_exec.executions.records import Execution
from qinling_exec.executions.targets import Target
from qinling_exec.executions.waiters import Waiters
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.slots import Slots

LOG = logging.getLogger(__name__)
#: How often a waiting caller looks at the database itself, in seconds.
_LOOK_SECONDS = 0.5

_functions = models.Function.__table__
_versions = models.FunctionVersion.__table__


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


class Executions:
    """Accepts executions and keeps their records.

    :param runs_images: whether functions made of an image can run here.
    :param sync_seconds: how long a synchronous caller waits for a queued execution; the record
        is answered as it is then.
    """

    def __init__(self, database: Database, wakeup: Wakeup, waiters: Waiters, slots: Slots,
                 runner: Runner, dispatcher: Dispatch, *, runs_images: bool,
                 sync_seconds: float) -> None:
        self._database = database
        self._wakeup = wakeup
        self._waiters = waiters
        self._slots = slots
        self._runner = runner
        self._dispatch = dispatcher
        self._queue = Queue(database)
        self._runs_images = runs_images
        self._sync_seconds = sync_seconds

    def submit(self, context: RequestContext, request: Request) -> Execution:
        """Accept an execution; a synchronous one has ended when this returns.

        :raises qinling_exec.exceptions.NotFound: the alias, function or version is not there.
        :raises qinling_exec.exceptions.Conflict: the function's runtime is not available.
        :raises qinling_exec.exceptions.InputError: the function can't run here.
        """
        with self._database.reader() as connection:
            target = self._resolve(connection, context, request)
            warm = workers.ready(connection, target.function_id, target.version)
        worker = self._borrow(target, warm) if request.sync else None
        try:
            execution = self._record(context, request, target, claimed=worker is not None)
        except BaseException:
            if worker is not None:
                self._slots.give_back(worker)
            raise
        LOG.info("Execution %s of function %s (version %s) accepted.", execution.id,
                 target.function_id, target.version)
        if worker is not None:
            ended = self._run_here(execution, target, worker)
            if ended is not None:
                return ended
        self._wakeup.ring()
        return self._wait(context, execution) if request.sync else execution

    def get(self, context: RequestContext, execution_id: str) -> Execution:
        """Return an execution. :raises qinling_exec.exceptions.NotFound: there is none."""
        with self._database.reader() as connection:
            return records.find(connection, context, execution_id)

    def list(self, context: RequestContext, query: scope.Query) -> scope.Slice[Execution]:
        """Return a page of executions."""
        scoped = scope.listed(records.table, context, query)
        with self._database.reader() as connection:
            rows = listing.select(records.table, scoped, query.filters, query.page, connection)
            more, rows = len(rows) > query.page.limit, rows[: query.page.limit]
            marker = listing.token(rows[-1]._mapping, query.page) if more else None
            return scope.Slice(records.complete(connection, rows), marker)

    def log(self, context: RequestContext, execution_id: str) -> bytes:
        """Return what an execution has printed so far.

        :raises qinling_exec.exceptions.NotFound: there is no such execution.
        """
        with self._database.reader() as connection:
            visible = scope.visible(records.table, context)
            known = sa.select(records.table.c.id).where(
                records.table.c.id == execution_id, *visible
            )
            if connection.execute(known).first() is None:
                raise exceptions.NotFound(f"Execution not found [id={execution_id}]")
            return logs.read(connection, execution_id)

    def delete(self, context: RequestContext, execution_id: str) -> None:
        """Delete an execution with its input, result and log; a run that goes on is ended.

        :raises qinling_exec.exceptions.NotFound: there is none.
        """
        table = records.table
        with self._database.writer() as connection:
            deleted = connection.execute(
                sa.delete(table).where(table.c.id == execution_id,
                                       *scope.visible(table, context))
            )
        if not deleted.rowcount:
            raise exceptions.NotFound(f"Execution not found [id={execution_id}]")
        self._dispatch.cancel(execution_id)
        self._waiters.ended(execution_id)

    def finish(self, fence: states.Fence, outcome: states.Outcome,
               sink: logs.Sink | None = None, now: datetime | None = None) -> str | None:
        """Record how a run ended, with the rest of its log.

        :returns: the result as stored, None when the run is not this runner's any more.
        """
        with self._database.writer() as connection:
            text = records.end(connection, fence, outcome, now)
            if text is not None and sink is not None:
                sink.store(connection)
        if text is None:
            LOG.warning("Execution %s, attempt %s: the outcome came too late and was dropped.",
                        fence.execution_id, fence.attempt)
        else:
            LOG.info("Execution %s ended: %s.", fence.execution_id, outcome.status)
        self._waiters.ended(fence.execution_id)
        return text

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
        return target

    def _borrow(self, target: Target, warm: Sequence[workers.Worker]) -> workers.Worker | None:
        if not self._runner.valid:
            return None
        fresh = [worker for worker in warm if worker.fingerprint == target.fingerprint]
        return self._slots.borrow(fresh)

    def _record(self, context: RequestContext, request: Request, target: Target,
                claimed: bool) -> Execution:
        now = utcnow()
        execution = Execution(
            id=request.id or models.new_id(), function_id=target.function_id,
            function_version=target.version, function_alias=request.function_alias or None,
            description=request.description, status=states.RUNNING, sync=request.sync,
            project_id=context.project, created_at=now, updated_at=None,
            started_at=now if claimed else None, finished_at=None, attempts=int(claimed),
            request_id=context.request_id, input=request.input,
        )
        row = {name: value for name, value in vars(execution).items()
               if name not in ("input", "result")}
        row["runner_id"] = self._runner.id if claimed else None
        with self._database.writer() as connection:
            if request.id is not None:
                _refuse_duplicate(connection, request.id)
            records.insert(connection, row, request.input)
            _count(connection, target)
        return execution

    def _run_here(self, execution: Execution, target: Target,
                  worker: workers.Worker) -> Execution | None:
        """Run in the calling thread; None when the worker did not take it."""
        fence = states.Fence(execution.id, self._runner.id, 1)
        run = dispatch.Run(fence, target, execution.input, execution.request_id)
        try:
            outcome, sink = self._dispatch.run(run, worker)
        except dispatch.NotStarted:
            self._queue.put_back(fence)
            return None
        now = utcnow()
        text = self.finish(fence, outcome, sink, now)
        if text is None:  # deleted, or another runner's: what is stored counts
            return execution
        return replace(execution, status=outcome.status, result=text, finished_at=now,
                       updated_at=now)

    def _wait(self, context: RequestContext, execution: Execution) -> Execution:
        """Wait for a queued execution to end."""
        until = time.monotonic() + self._sync_seconds
        event = self._waiters.expect(execution.id)
        try:
            while True:
                event.wait(_LOOK_SECONDS)
                event.clear()
                current = self.get(context, execution.id)
                if current.status in states.ENDED or time.monotonic() > until:
                    return current
        finally:
            self._waiters.forget(execution.id)


def _count(connection: sa.Connection, target: Target) -> None:
    """Count an execution of a function, or of its version, as Qinling does."""
    table, which = _functions, _functions.c.id == target.function_id
    if target.version:
        table = _versions
        which = sa.and_(_versions.c.function_id == target.function_id,
                        _versions.c.version_number == target.version)
    connection.execute(
        sa.update(table).where(which).values(count=table.c.count + 1, updated_at=utcnow())
    )


def _refuse_duplicate(connection: sa.Connection, execution_id: str) -> None:
    known: Any = connection.execute(
        sa.select(records.table.c.id).where(records.table.c.id == execution_id)
    ).first()
    if known is not None:
        raise exceptions.InputError("Duplicate entry for Execution: ['']")
