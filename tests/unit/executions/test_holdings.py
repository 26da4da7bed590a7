# SPDX-License-Identifier: Apache-2.0
"""What the database ascribes to this process and it does not know of goes back."""

import pytest

from qinling_exec import exceptions
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import states
from qinling_exec.executions.queue import Group

pytestmark = pytest.mark.every_database
F = Group("f", 0, "mine", utcnow())


def test_a_claim_that_nobody_knows_of_goes_back_at_the_second_look(queue, rows, holdings):
    (stray,) = rows.add()
    (others,) = rows.add(runner_id="other", attempts=1)
    queue.claim("me", F, ["w"])
    assert holdings.check("me") == 0
    assert rows.of(stray).runner_id == "me"
    assert holdings.check("me") == 1
    assert (rows.of(stray).runner_id, rows.of(stray).attempts) == (None, 0)
    assert rows.of(others).runner_id == "other"
    assert holdings.check("me") == 0


def test_what_is_held_stays_however_often_it_is_held(queue, rows, holdings):
    (execution_id,) = rows.add()
    queue.claim("me", F, ["w"])
    with holdings.holding(execution_id):
        with holdings.holding(execution_id):
            pass
        assert [holdings.check("me") for _ in range(3)] == [0, 0, 0]
    assert [holdings.check("me") for _ in range(2)] == [0, 1]


def test_two_claims_of_one_execution_are_not_one_that_is_seen_twice(queue, rows, holdings):
    rows.add()
    (first,) = queue.claim("me", F, ["w"])
    holdings.check("me")
    queue.put_back(first.fence, first.started_at)
    queue.claim("me", F, ["w"])
    assert holdings.check("me") == 0


def test_what_ran_and_waits_to_be_written_is_not_begun_once_more(queue, rows, holdings, ending,
                                                                 outbox, monkeypatch):
    (execution_id,) = rows.add()
    (claimed,) = queue.claim("me", F, ["w"])
    write = ending._write

    def refuse(*arguments):
        raise exceptions.Unavailable("away")

    monkeypatch.setattr(ending, "_write", refuse)
    settled = ending.finish(claimed.fence, states.Outcome(states.SUCCESS, {"output": 1}))
    assert settled is not None
    assert settled.kept
    assert [holdings.check("me") for _ in range(3)] == [0, 0, 0]
    monkeypatch.setattr(ending, "_write", write)
    outbox.stop()
    assert rows.of(execution_id).status == states.SUCCESS
