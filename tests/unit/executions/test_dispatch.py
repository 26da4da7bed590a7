# SPDX-License-Identifier: Apache-2.0
"""How inputs become arguments, answers outcomes, and what becomes of runs without an answer."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from qinling_exec.executions import dispatch, states
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.wire import (
    WorkerBusy,
    WorkerLost,
    WorkerRefused,
    WorkerUnreachable,
)
from qinling_exec.orchestrator.workers import Worker


@pytest.mark.parametrize(("given", "expected"), [
    (None, None), ("", None), ("null", None), ('{"a": 1}', {"a": 1}), ("{}", {}),
    ("hello", "hello"), ("6", "6"), ("1.5", "1.5"), ("true", "true"), ("[1]", "[1]"),
    ('"text"', '"text"'), ('{"a": ', '{"a": '), (" ", " "),
    ('{"n": 9007199254740993}', {"n": 9007199254740993}),
])
def test_objects_are_keywords_and_all_else_is_one_text(given, expected):
    assert dispatch.arguments(given) == expected


@pytest.mark.parametrize(("answer", "status"), [
    ({"output": 1, "success": True, "duration": 0.1}, states.SUCCESS),
    ({"output": 1, "success": False, "duration": 0.1}, states.FAILED),
    ({"output": 1, "duration": 0.1}, states.FAILED),
    ({"output": 1, "success": "yes"}, states.FAILED),
    ({}, states.FAILED),
])
def test_only_a_plain_success_is_one(answer, status):
    assert dispatch._judge(answer).status == status


@pytest.mark.parametrize("duration", [
    float("nan"), float("inf"), -1, 10 ** 400, "1", True, None, [], {}])
def test_a_duration_that_is_none_is_0(duration):
    """One that is no number, or too large for one, came into the record as it was."""
    answer = {"output": 1, "success": True, "duration": duration}
    assert dispatch._judge(answer).result == {"output": 1, "duration": 0}


WORKER = Worker("w", "f", 0, "x", "ready", "r", "unix:/nowhere", 3, "s")
RUN = dispatch.Run(states.Fence("e", "me", 1),
                   Target("f", 0, "runtime", "main.main", "zip", 100, 2**25, 5), None, None)


class Line:
    """A wire to a worker that answers, is lost or hangs, as the test says."""

    def __init__(self, answer=None, error=None, hears=True):
        self.answer, self.error, self.hears = answer, error, hears
        self.runs, self.cancelled = [], []
        self.running, self.over = threading.Event(), threading.Event()
        self.over.set()

    def execute(self, worker, request, seconds, on_log):
        self.runs.append(request["execution_id"])
        self.running.set()
        self.over.wait(10)
        if self.error is not None:
            raise self.error
        return self.answer

    def cancel(self, worker, execution_id):
        self.cancelled.append(execution_id)
        self.over.set()
        return self.hears


class Logs:
    def add(self, sink):
        pass

    remove = add


def build(line, valid=True):
    hung = []
    slots = Slots()
    slots.borrow([WORKER])
    made = dispatch.Dispatch(line, slots, Logs(), 100,
                             lambda name: valid and name == "me",
                             lambda worker: hung.append(worker.name))
    return made, slots, hung


def test_nothing_is_begun_without_a_lease():
    line = Line()
    made, slots, _ = build(line, valid=False)
    with pytest.raises(dispatch.NotStarted):
        made.run(RUN, WORKER)
    assert line.runs == []
    assert not slots.busy("w")
    assert made.running == 0


@pytest.mark.parametrize("error", [WorkerBusy("full"), WorkerUnreachable("gone"),
                                   WorkerRefused("not mine")])
def test_what_the_worker_did_not_take_was_not_started(error):
    made, slots, hung = build(Line(error=error))
    with pytest.raises(dispatch.NotStarted):
        made.run(RUN, WORKER)
    assert not slots.busy("w")
    assert slots.borrow([WORKER]) is None  # it is left alone for a moment
    assert hung == []


@pytest.mark.parametrize(("hears", "given_up"), [(True, []), (False, ["w"])])
def test_a_run_whose_worker_went_silent_is_ended_there_or_with_it(hears, given_up):
    line = Line(error=WorkerLost("silent"), hears=hears)
    made, slots, hung = build(line)
    outcome, _ = made.run(RUN, WORKER)
    assert outcome.status == states.ERROR
    assert line.cancelled == ["e"]
    assert hung == given_up
    assert not slots.busy("w")


def test_an_error_of_the_service_leaves_no_slot_taken():
    made, slots, _ = build(Line(answer=["no object"]))
    with pytest.raises(AttributeError):
        made.run(RUN, WORKER)
    assert not slots.busy("w")
    assert made.running == 0


def test_the_rest_is_ended_with_its_reason():
    line = Line(answer={"reason": "cancelled", "success": False})
    line.over.clear()
    made, _, _ = build(line)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(made.run, RUN, WORKER)
        assert line.running.wait(5)
        assert made.end_rest("The engine stops.", 5)
        outcome, _ = run.result()
    assert outcome == states.error("The engine stops.")


def test_a_rest_that_does_not_end_is_not_waited_for():
    line = Line(answer={})
    line.over.clear()
    line.cancel = lambda worker, execution_id: False
    made, _, _ = build(line)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(made.run, RUN, WORKER)
        assert line.running.wait(5)
        assert not made.end_rest("The engine stops.", 0.1)
        line.over.set()
        run.result()


def test_what_may_go_on_is_not_attempted_again():
    """Nobody could end the worker that hung: another attempt would run beside the first."""
    def on_hung(_worker):
        raise TimeoutError("no engine has ended it")

    line = Line(error=WorkerLost("silent"), hears=False)
    slots = Slots()
    slots.borrow([WORKER])
    made = dispatch.Dispatch(line, slots, Logs(), 100, lambda name: True, on_hung)
    outcome, _ = made.run(RUN, WORKER)
    assert (outcome.status, outcome.final) == (states.ERROR, True)
    assert "not attempted again" in outcome.result["output"]


def test_what_has_ended_for_certain_may_be():
    made, _, hung = build(Line(error=WorkerLost("silent"), hears=False))
    outcome, _ = made.run(RUN, WORKER)
    assert (outcome.status, outcome.final, hung) == (states.ERROR, False, ["w"])
