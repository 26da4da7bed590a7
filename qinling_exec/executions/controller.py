# SPDX-License-Identifier: Apache-2.0
"""The execution controller: submit, get, cancel and delete."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace

import sqlalchemy as sa

from qinling_exec import exceptions, faultpoint, metrics, tracing
from qinling_exec.context import RequestContext
from qinling_exec.db import models, scope
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.executions import dispatch, logs, records, states
from qinling_exec.executions.acceptance import Acceptance, Claim, Plan, Request
from qinling_exec.executions.cancellation import Cancellation, Ended
from qinling_exec.executions.dispatch import Dispatch
from qinling_exec.executions.ending import Ending
from qinling_exec.executions.express import Express
from qinling_exec.executions.follower import Follow
from qinling_exec.executions.holdings import Holdings
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.places import Places
from qinling_exec.executions.records import Execution
from qinling_exec.executions.targets import Target
from qinling_exec.executions.waiters import Waiters
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.slots import Slots

LOG = logging.getLogger(__name__)
#: Rounds when others use the same idempotency key at the same moment.
_TRIES = 5
#: How often a waiting caller looks itself, in seconds; it is woken when the execution ends.
_LOOK_SECONDS = 5.0
#: For how long a caller whose execution has ended waits for that to be stored, in seconds: after a
#: deadlock it takes a moment, without a database nobody knows.
_STORE_SECONDS = 10.0


class Executions:
    """Accepts executions and keeps their records.

    :param sync_seconds: how long a synchronous caller waits for a queued execution; the record
        is answered as it is then.
    """

    def __init__(self, database: Database, wakeup: Wakeup, waiters: Waiters, slots: Slots,
                 runner: Runner, dispatcher: Dispatch, acceptance: Acceptance, places: Places,
                 cancellation: Cancellation, ending: Ending, holdings: Holdings, *,
                 sync_seconds: float) -> None:
        self._database = database
        self._wakeup = wakeup
        self._waiters = waiters
        self._slots = slots
        self._runner = runner
        self._dispatch = dispatcher
        self._acceptance = acceptance
        self._places = places
        self._cancellation = cancellation
        self._ending = ending
        self._holdings = holdings
        self._sync_seconds = sync_seconds
        self._leaving = False
        #: Where the engine is in this process.
        self.express: Express | None = None

    def release_waiters(self) -> None:
        """Answer those who wait for executions that others run: this process is to end."""
        self._leaving = True
        self._waiters.wake_all()

    def submit(self, context: RequestContext, request: Request) -> Execution:
        """Accept an execution; a synchronous one has ended when this returns.

        :raises qinling_exec.exceptions.NotFound: the alias, function or version is not there.
        :raises qinling_exec.exceptions.Conflict: the function's runtime is not available, or the
            request's idempotency key was used for something else.
        :raises qinling_exec.exceptions.InputError: the function can't run here.
        :raises qinling_exec.exceptions.TooManyRequests: too many of the project wait already, or
            hold the places that this process has for those who wait.
        :raises qinling_exec.exceptions.Unavailable: the service is full.
        """
        if not request.sync:
            return self._submit(context, request)
        with self._places.one(context.project):
            return self._submit(context, request)

    def _submit(self, context: RequestContext, request: Request) -> Execution:
        began = time.thread_time()
        for _ in range(_TRIES):
            plan = self._acceptance.plan(context, request)
            if isinstance(plan, Execution):
                LOG.info("Execution %s was asked for once more.", plan.id)
                over = plan.status in states.ENDED or not request.sync
                return plan if over else self._wait(context, plan)
            begun = self._express(context, request, plan)
            if begun is not None:
                return begun
            worker = self._borrow(plan) if request.sync else None
            accepted, ended = self._accept(context, request, plan.target, worker)
            if ended is not None:
                faultpoint.reach("committed")
                return ended
            if accepted is not None:
                self._wakeup.ring(context.project)
                faultpoint.reach("accepted")
                if request.sync:
                    return self._wait(context, accepted)
                rest = self._acceptance.rests.rest(context.project, time.thread_time() - began)
                metrics.REST_SECONDS.inc(self._places.linger(rest))
                return accepted
        raise exceptions.Conflict("The Idempotency-Key is in use by another request right now."
                                  " Try again.")

    def _accept(self, context: RequestContext, request: Request, target: Target,
                worker: workers.Worker | None) -> tuple[Execution | None, Execution | None]:
        """Store an execution, and run it if there is a worker for it.

        :returns: the execution as it was accepted, None: plan again; and as the caller is to see
            it if it was run here.
        """
        if worker is None:
            return self._acceptance.store(context, request, target), None
        claim = Claim(request.id or models.new_id(), self._runner.id, worker.name)
        with self._holdings.holding(claim.execution_id):
            accepted = None
            try:
                accepted = self._acceptance.store(context, request, target, claim)
            finally:
                if accepted is None:
                    self._slots.give_back(worker)
            if accepted is None:
                return None, None
            faultpoint.reach("accepted")
            return accepted, self._run_here(context, accepted, target, worker,
                                            claim.runner_id)

    def get(self, context: RequestContext, execution_id: str) -> Execution:
        """Return an execution. :raises qinling_exec.exceptions.NotFound: there is none."""
        with self._database.reader() as connection:
            return records.find(connection, context, execution_id)

    def log_size(self, context: RequestContext, execution_id: str) -> tuple[int, bool]:
        """Return how many bytes of log an execution has, and whether there will be no more.

        :raises qinling_exec.exceptions.NotFound: there is no such execution.
        """
        query = sa.select(records.table.c.status).where(
            records.table.c.id == execution_id, *scope.visible(records.table, context)
        )
        with self._database.reader() as connection:
            # The status first: what has ended has all its log.
            status = connection.execute(query).scalar()
            if status is None:
                raise exceptions.NotFound(f"Execution not found [id={execution_id}]")
            return logs.size(connection, execution_id), status in states.ENDED

    def log(self, execution_id: str, begin: int, end: int) -> bytes:
        """Return bytes of a log that the caller may see.

        :raises qinling_exec.exceptions.NotFound: it was deleted meanwhile.
        """
        with self._database.reader() as connection:
            data = logs.read(connection, execution_id, begin, end)
        if len(data) < end - begin:
            raise exceptions.NotFound(f"Execution not found [id={execution_id}]")
        return data

    def follow(self, execution_id: str, begin: int, end: int | None) -> Follow:
        """Return how to follow a log that the caller may see, from a byte that it has or awaits.

        :param end: the byte before which to stop, None: when the execution has ended.
        :raises qinling_exec.exceptions.NotFound: it was deleted meanwhile.
        """
        with self._database.reader() as connection:
            found = logs.place(connection, execution_id, begin)
        if found is None:
            raise exceptions.NotFound(f"Execution not found [id={execution_id}]")
        place, before = found
        if end is None:
            return Follow(execution_id, place, None, before)
        return Follow(execution_id, place, max(0, end - place), before[: end - begin])

    def cancel(self, context: RequestContext, execution_id: str) -> Execution:
        """Cancel an execution, and wait a little for the end of its run.

        :returns: the execution; still running when its end is not confirmed yet.
        :raises qinling_exec.exceptions.NotFound: there is none.
        :raises Ended: it had ended, or ended otherwise meanwhile.
        """
        status = self._end(context, execution_id)
        if status not in (states.RUNNING, states.CANCELLED):
            raise Ended(execution_id, status)
        return self.get(context, execution_id)

    def delete(self, context: RequestContext, execution_id: str) -> None:
        """Delete an execution with its input, result and log; one that runs is cancelled first.

        Its record stays until its run has ended: without it nobody would end the run of a process
        that died.

        :raises qinling_exec.exceptions.NotFound: there is none.
        :raises qinling_exec.exceptions.Conflict: its run has not ended yet.
        """
        if self._delete_ended(context, execution_id):
            return
        with contextlib.suppress(Ended):
            if self._end(context, execution_id) == states.RUNNING:
                raise exceptions.Conflict(
                    f"Execution {execution_id} is being cancelled, and its run has not ended yet."
                    " Delete it again in a while.")
        self._delete_ended(context, execution_id)
        self._waiters.ended(execution_id)

    def _delete_ended(self, context: RequestContext, execution_id: str) -> bool:
        table = records.table
        query = sa.delete(table).where(table.c.id == execution_id,
                                       table.c.status != states.RUNNING,
                                       *scope.visible(table, context))
        with self._database.writer() as connection:
            return bool(connection.execute(query).rowcount)

    def _end(self, context: RequestContext, execution_id: str) -> str:
        """Have an execution cancelled; return its status after a while."""
        visible = scope.visible(records.table, context)
        status = self._cancellation.request(execution_id, visible)
        if status == states.RUNNING and self._places.try_one(context.project):
            try:
                status = self._cancellation.wait(execution_id, visible)
            finally:
                self._places.give_back(context.project)
        return status

    def _express(self, context: RequestContext, request: Request, plan: Plan) -> Execution | None:
        if request.sync or self.express is None:
            return None
        return self.express.submit(context, request, plan)

    def _borrow(self, plan: Plan) -> workers.Worker | None:
        return self._slots.borrow(plan.warm) if self._runner.valid else None

    def _run_here(self, context: RequestContext, execution: Execution, target: Target,
                  worker: workers.Worker, runner_id: str) -> Execution | None:
        """Run in the calling thread; None: it is in the queue now, or again."""
        fence = states.Fence(execution.id, runner_id, 1)
        run = dispatch.Run(fence, target, execution.input, execution.request_id,
                           context.global_request_id)
        try:
            with tracing.work("run", execution.request_id, execution_id=execution.id, attempt=1):
                outcome, sink = self._dispatch.run(run, worker)
        except dispatch.NotStarted:
            assert execution.started_at is not None
            self._ending.put_back(fence, execution.started_at, execution.project_id)
            return None
        except Exception:
            self._ending.abandon(fence)
            return self._look(context, execution)
        now = utcnow()
        settled = self._ending.finish(fence, outcome, sink, now)
        if settled is None:  # deleted, or another runner's: what is stored counts
            current = self._look(context, execution)
            return current if current.status in states.ENDED else None
        if settled.kept:
            return self._wait(context, execution, _STORE_SECONDS)
        if settled.status == states.RUNNING:
            return None
        return replace(execution, status=settled.status, result=settled.result, finished_at=now,
                       updated_at=now)

    def _wait(self, context: RequestContext, execution: Execution,
              seconds: float | None = None) -> Execution:
        """Wait for an execution to end, or for this process to be told to.

        :param seconds: at the most; None: as long as a synchronous caller waits.
        """
        until = time.monotonic() + (self._sync_seconds if seconds is None else seconds)
        event = self._waiters.expect(execution.id)
        try:
            while True:
                left = 0.0 if self._leaving else max(0.0, until - time.monotonic())
                event.wait(min(_LOOK_SECONDS, left))
                event.clear()
                current = self._look(context, execution)
                if current.status in states.ENDED or self._leaving or time.monotonic() >= until:
                    return current
        finally:
            self._waiters.forget(execution.id, event)

    def _look(self, context: RequestContext, execution: Execution) -> Execution:
        """Return an accepted execution as it is now, or, without a database, as it was."""
        try:
            return self.get(context, execution.id)
        except exceptions.Unavailable:
            return execution
