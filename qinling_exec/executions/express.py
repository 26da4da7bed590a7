# SPDX-License-Identifier: Apache-2.0
"""Asynchronous executions that do not go through the queue."""

from __future__ import annotations

from qinling_exec import exceptions, faultpoint
from qinling_exec.context import RequestContext
from qinling_exec.db import models
from qinling_exec.executions import states
from qinling_exec.executions.acceptance import Acceptance, Claim, Plan, Request
from qinling_exec.executions.engine import Engine
from qinling_exec.executions.holdings import Holdings
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.queue import Claimed
from qinling_exec.executions.records import Execution
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.workers import Worker


class Express:
    """Has the engine of this process begin an execution with its record, where that is fair.

    That is so for a project with nothing in the queue or among the engine's runs: what others have
    in the queue, and however long the engine takes to look through that, is no reason for it to
    wait. What it sends next goes into the queue, where projects take turns.
    """

    def __init__(self, engine: Engine, runner: Runner, slots: Slots, acceptance: Acceptance,
                 holdings: Holdings) -> None:
        self._engine = engine
        self._runner = runner
        self._slots = slots
        self._acceptance = acceptance
        self._holdings = holdings

    def submit(self, context: RequestContext, request: Request, plan: Plan) -> Execution | None:
        """Store an execution and have it begun; None: nothing was done, it is for the queue."""
        if not self._runner.valid or not self._engine.reserve(context.project):
            return None
        worker = self._slots.borrow(plan.warm)
        if worker is None:
            self._engine.release(context.project)
            return None
        claim = Claim(request.id or models.new_id(), self._runner.id, worker.name)
        with self._holdings.holding(claim.execution_id):
            execution = None
            try:
                execution = self._acceptance.store(context, request, plan.target, claim)
            except exceptions.TooManyRequests:
                return None  # too many run of the project: this one waits
            finally:
                if execution is None:
                    self._slots.give_back(worker)
                    self._engine.release(context.project)
            if execution is not None:
                faultpoint.reach("accepted")
                self._begin(context, execution, plan, claim, worker)
            return execution

    def _begin(self, context: RequestContext, execution: Execution, plan: Plan, claim: Claim,
               worker: Worker) -> None:
        assert execution.started_at is not None
        fence = states.Fence(execution.id, claim.runner_id, execution.attempts)
        claimed = Claimed(fence, worker.name, execution.input, execution.request_id,
                          context.global_request_id, execution.project_id, execution.sync,
                          execution.started_at, execution.created_at)
        self._engine.begin(claimed, plan.target, worker)
