# SPDX-License-Identifier: Apache-2.0
"""Runs of images: what an engine does around them. Real ones: tests/kubernetes/test_images.py."""

import time

import pytest

from qinling_exec import exceptions
from qinling_exec.executions import logs, states
from tests.unit.executions.image_runs import LOST, begin, log_of, wait_for


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
