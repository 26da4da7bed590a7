# SPDX-License-Identifier: Apache-2.0
"""What comes after an attempt."""

from datetime import timedelta

import pytest

from qinling_exec.db import clock
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import attempts, states
from qinling_exec.executions.attempts import Repeat

pytestmark = pytest.mark.every_database
ERROR = states.error("lost")
FAILED = states.Outcome(states.FAILED, {"output": "raised", "duration": 1})
SUCCESS = states.Outcome(states.SUCCESS, {"output": 1, "duration": 1})


@pytest.fixture
def settle(database, rows):
    """Settle a first attempt, with what its record and its function say."""
    def do(outcome, repeat=Repeat.LATER, attempt=1, function=None, **record):
        rows.function(**(function or {}))
        (execution_id,) = rows.add(runner_id="me", worker="w", attempts=attempt, **record)
        fence = states.Fence(execution_id, "me", attempt)
        with database.writer() as connection:
            settled = attempts.settle(connection, fence, outcome, repeat=repeat)
        assert settled is not None
        stored = rows.of(execution_id)
        assert settled.status == stored.status
        return stored

    return do


@pytest.mark.parametrize(("outcome", "function", "again"), [
    (ERROR, {}, False),
    (ERROR, {"max_attempts": 2}, True),
    (FAILED, {"max_attempts": 2}, False),
    (FAILED, {"max_attempts": 2, "retry_on_failure": True}, True),
    (FAILED, {"max_attempts": 1, "retry_on_failure": True}, False),
    (SUCCESS, {"max_attempts": 2, "retry_on_failure": True}, False),
    (states.cancelled(), {"max_attempts": 2, "retry_on_failure": True}, False),
])
def test_the_function_says_what_is_attempted_again(settle, outcome, function, again):
    stored = settle(outcome, function=function)
    assert (stored.status == states.RUNNING) is again
    assert (stored.runner_id is None) is again
    assert stored.attempts == 1


@pytest.mark.parametrize(("attempt", "again"), [(2, True), (3, False)])
def test_attempts_are_counted(settle, attempt, again):
    stored = settle(ERROR, attempt=attempt, function={"max_attempts": 3})
    assert (stored.status == states.RUNNING) is again


@pytest.mark.parametrize(("outcome", "status"), [
    (ERROR, states.CANCELLED), (FAILED, states.FAILED), (SUCCESS, states.SUCCESS),
])
def test_what_is_to_be_cancelled_is_not_attempted_again(settle, outcome, status):
    stored = settle(outcome, cancel_requested_at=utcnow(),
                    function={"max_attempts": 5, "retry_on_failure": True})
    assert stored.status == status


def test_some_errors_are_final(settle):
    assert settle(ERROR, Repeat.NEVER, function={"max_attempts": 5}).status == states.ERROR


def test_an_outcome_may_be_final(settle):
    outcome = states.error("it may go on", final=True)
    assert settle(outcome, function={"max_attempts": 5}).status == states.ERROR


def test_the_next_attempt_comes_after_a_pause(database, settle):
    stored = settle(ERROR, function={"max_attempts": 2})
    with database.reader() as connection:
        assert timedelta() < stored.retry_at - clock.read(connection) <= timedelta(seconds=1)
    assert (stored.worker, stored.started_at) == (None, None)


def test_or_at_once(database, settle):
    stored = settle(ERROR, Repeat.AT_ONCE, function={"max_attempts": 2})
    with database.reader() as connection:
        assert stored.retry_at <= clock.read(connection)


def test_one_whose_function_is_gone_ends(database, rows):
    (execution_id,) = rows.add(runner_id="me", attempts=1)
    with database.writer() as connection:
        attempts.settle(connection, states.Fence(execution_id, "me", 1), ERROR)
    assert rows.of(execution_id).status == states.ERROR


@pytest.mark.parametrize("fence", [("other", 1), ("me", 2)])
def test_another_fence_settles_nothing(database, rows, fence):
    rows.function(max_attempts=5)
    (execution_id,) = rows.add(runner_id="me", attempts=1)
    with database.writer() as connection:
        for outcome in (ERROR, SUCCESS):
            assert attempts.settle(connection, states.Fence(execution_id, *fence),
                                   outcome) is None
    assert rows.of(execution_id).runner_id == "me"


def test_pauses_grow_to_a_minute_and_differ():
    pauses = {attempt: [attempts._pause(attempt) for _ in range(50)] for attempt in (1, 3, 9)}
    for attempt, longest in ((1, 1), (3, 4), (9, 60)):
        assert longest / 2 <= min(pauses[attempt]) < max(pauses[attempt]) <= longest
