# SPDX-License-Identifier: Apache-2.0
"""What callers are told, and when."""

import threading
import time
from types import SimpleNamespace

import pytest

from qinling_exec import exceptions, metrics
from qinling_exec.context import RequestContext
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import rests, states
from qinling_exec.executions.acceptance import Plan, Request
from qinling_exec.executions.controller import Executions
from qinling_exec.executions.places import Places
from qinling_exec.executions.records import Execution
from qinling_exec.orchestrator.slots import Slots
from tests.unit.executions.accepting import Accepting

CONTEXT = RequestContext(project_id="mine")
SUCCESS = states.Outcome(states.SUCCESS, {"output": 1, "duration": 0.1})


class Acceptance:
    """Stores what it is given; its one worker is warm."""

    def __init__(self, rows):
        self.rows = rows

    def plan(self, context, request):
        return Plan(SimpleNamespace(), [SimpleNamespace(name="w", room=1, runner_id="me")])

    def store(self, context, request, target, claim=None):
        (made,) = self.rows.add(sync=True, runner_id="me", worker="w", attempts=1)
        return Execution(made, "f", 0, None, None, states.RUNNING, True, "mine", utcnow(), None,
                         utcnow(), None, 1, None)


@pytest.fixture
def make(database, wakeup, waiters, ending, rows, holdings):
    """Makes a controller; what is given happens before the outcome of a run is written."""
    def make(before=lambda fence: None, accepting=None):
        def run(given, worker):
            before(given.fence)
            return SUCCESS, None

        return Executions(
            database, wakeup, waiters, Slots(), SimpleNamespace(id="me", valid=True),
            SimpleNamespace(run=run), accepting or Acceptance(rows), Places(4, 4), None, ending,
            holdings, sync_seconds=20)

    return make


@pytest.fixture
def submit(make):
    """Runs one synchronous execution; what is given happens before its outcome is written."""
    return lambda before: make(before).submit(CONTEXT, Request(function_id="f"))


@pytest.mark.parametrize(("sync", "express", "warm", "seen"), [
    (False, False, True, ["ring", "rest", "linger 0.5"]),
    (False, True, True, []),
    (True, False, True, []),
    (True, False, False, ["ring"])])
def test_what_goes_into_the_queue_is_answered_at_a_pace(make, monkeypatch, sync, express, warm,
                                                         seen):
    """It is in the queue before; what is begun with its record or waited for is not held up."""
    executions, did = make(), []
    executions._acceptance.rests = SimpleNamespace(
        rest=lambda project, busy: did.append("rest") or 0.5 * (busy > 0))
    monkeypatch.setattr(executions._places, "linger",
                        lambda seconds: did.append(f"linger {seconds}") or seconds)
    monkeypatch.setattr(executions._wakeup, "ring", lambda project: did.append("ring"))
    monkeypatch.setattr(executions, "_wait", lambda context, execution: execution)
    if express:
        made = object()
        executions.express = SimpleNamespace(submit=lambda context, request, plan: made)
    if not warm:
        monkeypatch.setattr(executions, "_borrow", lambda plan: None)
    executions.submit(CONTEXT, Request(function_id="f", sync=sync))
    assert did == seen


def test_a_flood_beside_another_project_is_answered_later(make, database, monkeypatch):
    """Alone it is not; what it asked for is in the queue long before it hears of that."""
    monkeypatch.setattr(rests, "_REST", 10_000)
    monkeypatch.setattr(rests, "_LONGEST", 0.3)
    monkeypatch.setattr(rests, "_CREDIT", 0.0)
    executions = make(accepting=Accepting(database))

    def ask(project):
        """Ask for an execution; return for how long that rested, and how old its record is."""
        context = RequestContext(project_id=project)
        before = metrics.REST_SECONDS._value.get()
        made = executions.submit(context, Request(function_id="f", sync=False))
        age = (utcnow() - made.created_at).total_seconds()
        return metrics.REST_SECONDS._value.get() - before, age

    assert [ask("a")[0] for _ in range(3)] == [0, 0, 0]
    assert ask("b")[0] == 0
    assert ask("a")[0] == 0, "it pays for the one before"
    seconds, age = ask("a")
    assert 0.2 < seconds < 10
    assert age >= seconds


def test_what_is_stored_later_is_waited_for(ending, submit, monkeypatch):
    """Whoever asked was told that it runs, after a deadlock, and had to look for its end."""
    write, broken = ending._write, threading.Event()

    def breaks_once(*arguments):
        if not broken.is_set():
            broken.set()
            raise exceptions.Unavailable("a deadlock")
        return write(*arguments)

    monkeypatch.setattr(ending, "_write", breaks_once)
    answer = submit(lambda fence: None)
    assert broken.is_set()
    assert (answer.status, answer.result) == (states.SUCCESS, '{"output": 1, "duration": 0.1}')


def test_without_a_database_it_is_not_waited_for_long(submit, ending, monkeypatch):
    def never(*arguments):
        raise exceptions.Unavailable("away")

    monkeypatch.setattr(ending, "_write", never)
    monkeypatch.setattr("qinling_exec.executions.controller._STORE_SECONDS", 0.2)
    began = time.monotonic()
    assert submit(lambda fence: None).status == states.RUNNING
    assert 0.2 <= time.monotonic() - began < 10, "less than others wait, and not nothing"


def test_what_another_runner_has_recorded_is_what_counts(rows, submit):
    """The caller was told what it was when it came."""
    def taken_over(fence):
        rows.change(fence.execution_id, status=states.ERROR, runner_id="other")

    assert submit(taken_over).status == states.ERROR


def test_what_another_runner_goes_on_with_is_waited_for(rows, waiters, submit):
    def taken_over(fence):
        rows.change(fence.execution_id, runner_id="other", attempts=2)

        def end():
            rows.change(fence.execution_id, status=states.FAILED)
            waiters.ended(fence.execution_id)

        threading.Timer(0.3, end).start()

    assert submit(taken_over).status == states.FAILED


def test_what_was_deleted_meanwhile_is_not_there(rows, submit):
    def delete(fence):
        with rows.database.writer() as connection:
            connection.exec_driver_sql(
                f"DELETE FROM executions WHERE id = '{fence.execution_id}'")

    with pytest.raises(exceptions.NotFound):
        submit(delete)
