# SPDX-License-Identifier: Apache-2.0
"""Runs of images that find no room, or can't be begun now: they wait in the queue."""

import time
from datetime import timedelta

from qinling_exec.db.engine import utcnow
from qinling_exec.executions import states
from qinling_exec.executions.queue import Queue
from qinling_exec.orchestrator.base import ImageEnd, OrchestratorFull, OrchestratorUnavailable
from tests.unit.executions.image_runs import LOST, begin, target_of, wait_for


def test_what_can_t_be_begun_now_waits_as_before(database, rows, images, driver):
    execution, = rows.add()
    driver.error = OrchestratorUnavailable("no answer")
    begin(database, images)
    assert wait_for(lambda: not images.running())
    row = rows.of(execution)
    assert (row.status, row.runner_id, row.attempts) == (states.RUNNING, None, 0)
    assert driver.ended == [], "it may be there: whoever claims it next finds it"


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
    waiting = {group: target_of(database)}
    assert wait_for(lambda: images.crowded(waiting) == ["mine"])
    assert images.most_of(target_of(database)) == 0
    driver.on_room()
    assert images.most_of(target_of(database)) == 1
    assert images.crowded(waiting) == [], "it may find room now"


def test_nobody_is_to_make_way_for_runs_that_are_too_large(database, rows, images, driver):
    """Idle workers of other projects went, again and again, for what no quota lets in."""
    rows.add()
    driver.error = OrchestratorFull("exceeded quota", moves=None)
    with database.reader() as connection:
        group, = Queue(database).groups(connection)
    begin(database, images)
    assert wait_for(lambda: images.why_waiting(target_of(database)))
    assert images.crowded({group: target_of(database)}) == []


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


def test_what_a_dead_engine_had_waiting_waits_in_the_queue_again(rows, images, driver):
    execution, = rows.add(runner_id="me", attempts=2, started_at=utcnow())
    driver.runs[execution, 2] = type("Run", (), {"log_begin": 0})
    driver.end_with = ImageEnd("running", "start")
    driver.going_on.set()
    images.adopt(states.Fence(execution, "me", 2), "mine", rows.of(execution).started_at, LOST)
    assert wait_for(lambda: rows.of(execution).runner_id is None)
    row = rows.of(execution)
    assert (row.status, row.attempts, driver.ended) == (states.RUNNING, 1, [(execution, 2)])
