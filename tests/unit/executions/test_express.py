# SPDX-License-Identifier: Apache-2.0
"""What is begun with its record, and what gives its thread and its slot back."""

from types import SimpleNamespace

import pytest

from qinling_exec import exceptions
from qinling_exec.context import RequestContext
from qinling_exec.db.engine import utcnow
from qinling_exec.executions.acceptance import Plan, Request
from qinling_exec.executions.express import Express
from qinling_exec.orchestrator.slots import Slots

CONTEXT = RequestContext(project_id="p", global_request_id="req-far")
REQUEST = Request(function_id="f", sync=False)


class Engine:
    """Notes what it is asked for; one thread is free."""

    def __init__(self):
        self.reserved, self.begun = [], []

    def reserve(self, project_id):
        if self.reserved:
            return False
        self.reserved.append(project_id)
        return True

    def release(self, project_id):
        self.reserved.remove(project_id)

    def begin(self, claimed, target, worker):
        self.begun.append((claimed, target, worker))


class Acceptance:
    """Stores everything, until it is told otherwise."""

    def __init__(self):
        self.answer = self.store_one

    def store_one(self, context, request, target, claim):
        now = utcnow()
        return SimpleNamespace(id=claim.execution_id, attempts=1, input="7", request_id="req-near",
                               project_id=context.project, sync=False, started_at=now,
                               created_at=now)

    def store(self, context, request, target, claim):
        return self.answer(context, request, target, claim)


@pytest.fixture
def parts(holdings):
    return SimpleNamespace(
        engine=Engine(), runner=SimpleNamespace(id="me", valid=True), slots=Slots(),
        acceptance=Acceptance(), holdings=holdings,
        worker=SimpleNamespace(name="w", room=1, runner_id="me"))


@pytest.fixture
def submit(parts):
    express = Express(parts.engine, parts.runner, parts.slots, parts.acceptance, parts.holdings)
    return lambda: express.submit(CONTEXT, REQUEST, Plan("target", [parts.worker]))


def test_a_newcomers_execution_is_begun_with_its_record(parts, submit):
    execution = submit()
    ((claimed, target, worker),) = parts.engine.begun
    assert (target, worker) == ("target", parts.worker)
    assert (claimed.fence.execution_id, claimed.fence.runner_id, claimed.fence.attempt) == (
        execution.id, "me", 1)
    assert (claimed.input, claimed.request_id, claimed.global_request_id) == (
        "7", "req-near", "req-far")
    assert parts.engine.reserved == ["p"]
    assert parts.slots.busy("w")


def nothing_is_taken(parts):
    return not (parts.engine.begun or parts.slots.busy("w") or parts.holdings._held)


def test_one_without_a_free_worker_is_for_the_queue(parts, submit):
    parts.slots.borrow([parts.worker])
    assert submit() is None
    assert parts.engine.reserved == []


def test_one_without_a_lease_is_for_the_queue(parts, submit):
    parts.runner.valid = False
    assert submit() is None
    assert nothing_is_taken(parts)


def test_one_of_a_project_that_has_something_at_work_is_for_the_queue(parts, submit):
    parts.engine.reserve("p")
    assert submit() is None
    assert nothing_is_taken(parts)


def too_many(*_args):
    raise exceptions.TooManyRequests("as many as may run")


def used_meanwhile(*_args):
    return None


@pytest.mark.parametrize("answer", [too_many, used_meanwhile])
def test_one_that_may_not_run_yet_is_for_the_queue(parts, submit, answer):
    parts.acceptance.answer = answer
    assert submit() is None
    assert nothing_is_taken(parts)
    assert parts.engine.reserved == []


def test_one_that_cant_be_stored_gives_everything_back(parts, submit):
    def away(*_args):
        raise exceptions.Unavailable("away")

    parts.acceptance.answer = away
    with pytest.raises(exceptions.Unavailable):
        submit()
    assert nothing_is_taken(parts)
    assert parts.engine.reserved == []
