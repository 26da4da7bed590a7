# SPDX-License-Identifier: Apache-2.0
"""Runs of images: what an engine does around them. Real ones: tests/kubernetes/test_images.py."""

import threading
import time
from datetime import timedelta

import pytest

from qinling_exec import exceptions
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import logs, states, targets
from qinling_exec.executions.flusher import Flusher
from qinling_exec.executions.images import Images
from qinling_exec.executions.queue import Queue
from qinling_exec.executions.room import Room
from qinling_exec.orchestrator.base import ImageEnd, OrchestratorFull, OrchestratorUnavailable

LIMIT = 1000
DONE = ImageEnd("success", "none", None, 1.0)
LOST = states.error("It was lost.")
DELETED = ImageEnd("error", "deleted", "It was deleted.")


class Driver:
    """Runs that print and end as the test says."""

    ready = True

    def __init__(self):
        self.runs, self.ended, self.waits = {}, [], {}
        self.prints, self.end_with, self.error, self.away = b"", DONE, None, False
        self.going_on, self.may_begin = threading.Event(), threading.Event()
        self.may_begin.set()
        self.entered = threading.Event()

    def listen(self, on_room):
        self.on_room = on_room

    def waiting(self):
        return {attempt for attempt in self.runs if attempt not in self.waits}

    def begin(self, run):
        self.entered.set()
        self.may_begin.wait(10)
        if self.error:
            raise self.error
        self.runs[run.attempt] = run

    def log_begin(self, attempt):
        if self.away:
            raise OrchestratorUnavailable("no answer")
        run = self.runs.get(attempt)
        return run.log_begin if run else None

    def follow(self, attempt, on_log, skip, left):
        on_log(self.prints[skip:])
        while not self.going_on.wait(0.01) and not left.is_set() and attempt not in self.ended:
            pass
        if left.is_set():
            return None
        return DELETED if attempt in self.ended else self.end_with

    def end(self, attempt):
        self.seen_at_end = self.images.fences()
        self.ended.append(attempt)

    def all(self):
        return set(self.runs)


class Me:
    id = "me"

    def beat(self):
        pass

    def holds(self, runner_id):
        return runner_id == self.id


@pytest.fixture
def driver():
    return Driver()


@pytest.fixture
def room():
    return Room(0.5)


@pytest.fixture
def images(database, rows, driver, ending, holdings, room):
    rows.runner("me")
    rows.function(code='{"source": "image", "image": "i"}', entry=None, max_attempts=2)
    flusher = Flusher(database)
    flusher.start()
    images = Images(database, driver, Me(), ending, holdings, flusher, LIMIT, 4, room,
                    lambda: None)
    driver.images = images
    yield images
    images.leave()
    flusher.stop()


def begin(database, images, count=1):
    with database.reader() as connection:
        group, = Queue(database).groups(connection)
        target = targets.load(connection, "f", 0)
    images.begin(group, target, count)


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def log_of(database, execution_id):
    with database.reader() as connection:
        return logs.read(connection, execution_id)


def test_a_run_is_forgotten_once_its_outcome_is_stored(database, rows, images, driver):
    execution, = rows.add()
    driver.prints = b"hello\n"
    begin(database, images)
    assert wait_for(lambda: (execution, 1) in driver.runs)
    assert (driver.ended, images.running()) == ([], {"mine": 1})
    driver.going_on.set()
    assert wait_for(lambda: driver.ended == [(execution, 1)])
    assert rows.of(execution).status == states.SUCCESS
    assert rows.result(execution) == '{"duration": 1.0}'
    assert log_of(database, execution) == b"hello\n"
    assert driver.seen_at_end == [], "what is over is not to be ended as somebody else's"
    assert driver.runs[execution, 1].arguments == ('{"n": 1}',)
    assert wait_for(lambda: not images.running())


def test_what_can_t_be_begun_now_waits_as_before(database, rows, images, driver):
    execution, = rows.add()
    driver.error = OrchestratorUnavailable("no answer")
    begin(database, images)
    assert wait_for(lambda: not images.running())
    row = rows.of(execution)
    assert (row.status, row.runner_id, row.attempts) == (states.RUNNING, None, 0)
    assert driver.ended == [], "it may be there: whoever claims it next finds it"


def target_of(database):
    with database.reader() as connection:
        return targets.load(connection, "f", 0)


def test_what_finds_no_room_waits_in_the_queue_and_is_tried_one_at_a_time(
        database, rows, images, driver):
    executions = rows.add(3)
    assert images.most_of(target_of(database)) > 3
    driver.error = OrchestratorFull("exceeded quota", moves=True)
    begin(database, images, 3)
    assert wait_for(lambda: not images.running())
    found = [rows.of(one) for one in executions]
    assert {(row.status, row.runner_id, row.attempts, row.started_at) for row in found} == {
        (states.RUNNING, None, 0, None)}
    assert images.most_of(target_of(database)) == 0
    assert images.why_waiting(target_of(database)) == "exceeded quota"
    assert wait_for(lambda: images.most_of(target_of(database)) == 1)
    driver.error = None
    begin(database, images)
    assert wait_for(lambda: len(driver.runs) == 1)
    assert images.most_of(target_of(database)) > 3
    assert images.why_waiting(target_of(database)) == ""


def test_whose_runs_find_no_room(database, rows, images, driver):
    assert (images.has_waiting, images.crowded({})) == (False, [])
    rows.add()
    begin(database, images)
    assert wait_for(lambda: driver.runs)
    assert (images.has_waiting, images.crowded({})) == (True, ["mine"])
    driver.waits = driver.runs
    assert (images.has_waiting, images.crowded({})) == (False, [])
    rows.add()
    driver.error = OrchestratorFull("exceeded quota", moves=False)
    with database.reader() as connection:
        group, = Queue(database).groups(connection)
    begin(database, images)
    assert wait_for(lambda: images.crowded({group: target_of(database)}) == ["mine"])
    assert images.most_of(target_of(database)) == 0
    driver.on_room()
    assert images.most_of(target_of(database)) == 1
    assert images.crowded({group: target_of(database)}) == [], "it may find room now"


def test_what_finds_no_room_for_too_long_is_told_so(database, rows, images, driver):
    execution, = rows.add(created_at=utcnow() - timedelta(seconds=60))
    driver.error = OrchestratorFull("exceeded quota", moves=False)
    begin(database, images)
    assert wait_for(lambda: not images.running())
    assert rows.of(execution).status == states.RUNNING, "there may be some in a moment"
    time.sleep(0.6)
    begin(database, images)
    assert wait_for(lambda: rows.of(execution).retry_at is not None)
    assert rows.of(execution).attempts == 1, "that was the first attempt of two"
    rows.change(execution, retry_at=None)
    begin(database, images)
    assert wait_for(lambda: rows.of(execution).status == states.ERROR)
    assert "exceeded quota" in rows.result(execution)


def test_a_pod_that_never_had_its_turn_goes_and_the_execution_waits(database, rows, images,
                                                                     driver):
    execution, = rows.add()
    driver.end_with = ImageEnd("running", "start")
    begin(database, images)
    assert wait_for(lambda: (execution, 1) in driver.runs)
    driver.going_on.set()
    assert wait_for(lambda: not images.running())
    row = rows.of(execution)
    assert (row.status, row.runner_id, row.attempts) == (states.RUNNING, None, 0)
    assert driver.ended == [(execution, 1)]


def test_cancelled_before_it_is_there(database, rows, images, driver):
    execution, = rows.add()
    driver.may_begin.clear()
    begin(database, images)
    assert driver.entered.wait(10)
    fence = states.Fence(execution, "me", 1)
    assert images.mark(fence, asked=True) is False
    driver.may_begin.set()
    assert wait_for(lambda: rows.of(execution).status == states.CANCELLED)
    assert (execution, 1) in driver.ended


def test_the_run_of_a_lost_execution_is_left_alone(database, rows, images, driver):
    execution, = rows.add()
    begin(database, images)
    assert wait_for(lambda: (execution, 1) in driver.runs)
    rows.change(execution, runner_id="other")
    driver.going_on.set()
    assert wait_for(lambda: not images.running())
    assert driver.ended == []
    assert rows.of(execution).status == states.RUNNING


def test_another_s_run_is_looked_after_no_more(database, rows, images, driver):
    execution, = rows.add()
    begin(database, images)
    assert wait_for(lambda: (execution, 1) in driver.runs)
    assert images.mark(states.Fence(execution, "me", 1), asked=False) is False
    assert wait_for(lambda: not images.running())
    assert (driver.ended, rows.of(execution).status) == ([], states.RUNNING)


@pytest.mark.parametrize("stored", [b"", b"[Attempt 2 begins here.]\n",
                                    b"[Attempt 2 begins here.]\none\n"])
def test_a_second_attempt_is_gone_on_with(database, rows, images, driver, ending, stored):
    execution, = rows.add(runner_id="me", attempts=2)
    fence = states.Fence(execution, "me", 2)
    rows.insert(logs._table, execution_id=execution, position=0, data=b"first\n" + stored)
    driver.runs[execution, 2] = type("Run", (), {"log_begin": 6})
    driver.prints = b"one\ntwo\n"
    driver.going_on.set()
    images.adopt(fence, "mine", None, LOST)
    assert wait_for(lambda: rows.of(execution).status == states.SUCCESS)
    assert log_of(database, execution) == b"first\n[Attempt 2 begins here.]\none\ntwo\n"


def test_there_is_nothing_to_go_on_with(rows, images, driver):
    execution, = rows.add(runner_id="me", attempts=2)
    images.adopt(states.Fence(execution, "me", 2), "mine", None, LOST)
    assert wait_for(lambda: rows.of(execution).status == states.ERROR)
    assert "lost" in rows.result(execution)


def test_nobody_can_tell_for_a_while_whether_there_is_something(rows, images, driver):
    execution, = rows.add(runner_id="me", attempts=2)
    driver.away = True
    images.adopt(states.Fence(execution, "me", 2), "mine", None, LOST)
    time.sleep(0.2)
    assert rows.of(execution).status == states.RUNNING
    driver.runs[execution, 2] = type("Run", (), {"log_begin": 0})
    driver.away = False
    driver.going_on.set()
    assert wait_for(lambda: rows.of(execution).status == states.SUCCESS)


def test_an_engine_that_ends_takes_over_nothing(rows, images, driver):
    images.leave()
    with pytest.raises(exceptions.Unavailable):
        images.adopt(states.Fence("e", "me", 1), "mine", None, LOST)
    assert images.most == 0


def test_what_a_dead_engine_had_waiting_waits_in_the_queue_again(rows, images, driver):
    execution, = rows.add(runner_id="me", attempts=2, started_at=utcnow())
    driver.runs[execution, 2] = type("Run", (), {"log_begin": 0})
    driver.end_with = ImageEnd("running", "start")
    driver.going_on.set()
    images.adopt(states.Fence(execution, "me", 2), "mine", rows.of(execution).started_at, LOST)
    assert wait_for(lambda: rows.of(execution).runner_id is None)
    row = rows.of(execution)
    assert (row.status, row.attempts, driver.ended) == (states.RUNNING, 1, [(execution, 2)])
