# SPDX-License-Identifier: Apache-2.0
"""Cancelling: by compare-and-set, once, whoever runs the execution."""

import contextlib
import json
import threading
from collections import Counter

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db.engine import utcnow
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.executions import records, states
from qinling_exec.executions.attempts import Repeat
from qinling_exec.executions.cancellation import Cancellation, Ended
from qinling_exec.executions.queue import Group
from qinling_exec.executions.waiters import Waiters

pytestmark = pytest.mark.every_database

TABLE = records.table


@pytest.fixture
def cancellation(database):
    asked = []
    cancellation = Cancellation(database, Waiters(database, Wakeup()), asked.append)
    cancellation.asked = asked
    return cancellation


def insert(database, execution_id="e", runner=None, status=states.RUNNING):
    with database.writer() as connection:
        connection.execute(sa.insert(TABLE), {
            "id": execution_id, "project_id": "mine", "function_id": "f", "function_version": 0,
            "status": status, "sync": False, "created_at": utcnow(), "runner_id": runner,
            "attempts": int(runner is not None),
        })


def row(database, execution_id="e"):
    with database.reader() as connection:
        chosen = sa.select(TABLE.c.id).where(TABLE.c.id == execution_id).subquery("chosen")
        return records.build(connection.execute(records.whole(chosen)).one())


def requested(database):
    with database.reader() as connection:
        return connection.execute(sa.select(TABLE.c.cancel_requested_at)).scalar()


def test_one_that_waits_ends_at_once(database, cancellation):
    insert(database)
    assert cancellation.request("e", []) == states.CANCELLED
    found = row(database)
    assert (found.status, found.finished_at is not None) == (states.CANCELLED, True)
    assert json.loads(found.result) == {"output": "The execution was cancelled."}
    assert cancellation.asked == []
    with pytest.raises(Ended, match="ended already: its status is cancelled"):
        cancellation.request("e", [])


def test_one_that_runs_is_left_to_its_runner(database, cancellation):
    insert(database, runner="r")
    assert cancellation.request("e", []) == states.RUNNING
    assert row(database).status == states.RUNNING
    first = requested(database)
    assert first is not None and cancellation.asked == ["e"]
    assert cancellation.request("e", []) == states.RUNNING
    assert requested(database) == first


@pytest.mark.parametrize("status", [states.SUCCESS, states.FAILED, states.ERROR])
def test_one_that_has_ended_stays_as_it_is(database, cancellation, status):
    insert(database, runner="r", status=status)
    with pytest.raises(Ended) as found:
        cancellation.request("e", [])
    assert found.value.status == status
    assert requested(database) is None


def test_out_of_sight(database, cancellation):
    insert(database)
    other = [TABLE.c.project_id == "other"]
    with pytest.raises(exceptions.NotFound):
        cancellation.request("e", other)
    with pytest.raises(exceptions.NotFound):
        cancellation.request("nothing", [])
    assert row(database).status == states.RUNNING


def test_waits_for_the_end_but_not_for_ever(database, cancellation):
    insert(database, runner="r")
    cancellation.request("e", [])
    assert cancellation.wait("e", [], 0.05) == states.RUNNING

    def end():
        with database.writer() as connection:
            records.end(connection, states.Fence("e", "r", 1), states.cancelled(1.5))

    runner = threading.Timer(0.05, end)
    runner.start()
    assert cancellation.wait("e", [], 30) == states.CANCELLED
    runner.join()
    assert json.loads(row(database).result)["duration"] == 1.5


def test_one_that_went_back_to_the_queue_meanwhile(database, cancellation):
    insert(database, runner="r")
    cancellation.request("e", [])
    with database.writer() as connection:
        connection.execute(sa.update(TABLE).values(runner_id=None))
    assert cancellation.wait("e", [], 30) == states.CANCELLED


def test_racing_with_the_end_there_is_one_end(database, cancellation):
    """A run's end and a cancel at once, whichever is first: one terminal state, one result."""
    for number in range(100):
        name = f"e{number}"
        insert(database, name, runner="r" if number % 2 else None)
        fence = states.Fence(name, "r", 1)
        ended = []

        def end(fence=fence, ended=ended):
            with database.writer() as connection:
                connection.execute(sa.update(TABLE).where(
                    TABLE.c.id == fence.execution_id, TABLE.c.status == states.RUNNING
                ).values(runner_id="r", attempts=1))
            with database.writer() as connection:
                ended.append(records.end(connection, fence,
                                         states.Outcome(states.SUCCESS, {"output": 1})))

        racer = threading.Thread(target=end)
        racer.start()
        with contextlib.suppress(Ended):
            cancellation.request(name, [])
        racer.join()
        found = row(database, name)
        won = ended[0] is not None
        assert found.status == (states.SUCCESS if won else states.CANCELLED)
        assert found.result is not None


def test_racing_with_claims_ends_and_further_attempts(database, cancellation, rows, queue, ending,
                                                       database_kind):
    """Whichever is first: one terminal state each, and the one that the canceller was told."""
    rows.function(max_attempts=2)
    ids = rows.add(1000 if database_kind == "postgresql" else 200)
    told, begun, group = {}, Counter(), Group("f", 0, "mine", utcnow())
    success = states.Outcome(states.SUCCESS, {"output": 1, "duration": 0})

    def cancel(some):
        for execution_id in some:
            try:
                told[execution_id] = cancellation.request(execution_id, [])
            except Ended as error:
                told[execution_id] = error.status

    def run(name):
        claimed = True
        while claimed or all(thread.is_alive() for thread in cancels):
            claimed = queue.claim(name, group, ["w"] * 4)
            for item in claimed:
                begun[item.fence.execution_id] += 1
                bad = int(item.fence.execution_id[-1], 16) % 2
                ending.finish(item.fence, states.error("lost") if bad else success,
                              repeat=Repeat.AT_ONCE)

    cancels = [threading.Thread(target=cancel, args=(some,)) for some in (ids[::2], ids[:0:-2])]
    runs = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in (*cancels, *runs):
        thread.start()
    for thread in (*cancels, *runs):
        thread.join()
    ends = Counter()
    for execution_id in ids:
        ended = rows.of(execution_id)
        ends[ended.status] += 1
        assert rows.result(execution_id)  # one: its key is the execution's id
        assert begun[execution_id] == ended.attempts <= 2
        heard = told.get(execution_id)
        assert ended.status == heard or heard in (None, states.RUNNING), (ended.status, heard)
        assert heard != states.RUNNING or ended.status in (states.SUCCESS, states.CANCELLED)
    assert set(ends) <= states.ENDED
    assert ends[states.CANCELLED] > 0
