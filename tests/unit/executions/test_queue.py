# SPDX-License-Identifier: Apache-2.0
"""Claims, fences and the reaper, on rows."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from qinling_exec.db import clock, models
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import leases, records, states
from qinling_exec.executions.queue import Queue
from qinling_exec.executions.reaper import Reaper
from qinling_exec.executions.waiters import Waiters

TABLE = records.table


@pytest.fixture
def queue(database):
    return Queue(database)


def add(database, count=1, **values):
    ids = [models.new_id() for _ in range(count)]
    with database.writer() as connection:
        for execution_id in ids:
            records.insert(connection, {
                "id": execution_id, "project_id": "mine", "function_id": "f",
                "function_version": 0, "status": states.RUNNING, "sync": False,
                "created_at": utcnow(), "attempts": 0, **values,
            }, '{"n": 1}')
    return ids


def row(database, execution_id):
    with database.reader() as connection:
        return connection.execute(sa.select(TABLE).where(TABLE.c.id == execution_id)).one()


def test_groups_count_what_runs_and_what_waits(database, queue):
    add(database, 2)
    add(database, 1, runner_id="r")
    add(database, 1, function_id="g", runner_id="r")
    add(database, 1, status=states.SUCCESS)
    (group,) = queue.groups()
    assert (group.function_id, group.active, group.queued) == ("f", 3, 2)


def test_claims_take_the_oldest_first_with_their_input(database, queue):
    ids = add(database, 3)
    claimed = queue.claim("me", "f", 0, 2)
    assert [item.fence.execution_id for item in claimed] == ids[:2]
    assert claimed[0].fence.attempt == 1
    assert claimed[0].input == '{"n": 1}'


def test_each_execution_is_claimed_once_by_many_claimers(database, queue):
    ids = add(database, 30)
    taken = []

    def claim(name):
        while claimed := queue.claim(name, "f", 0, 2):
            taken.extend(item.fence.execution_id for item in claimed)

    threads = [threading.Thread(target=claim, args=(f"runner-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_what_is_put_back_counts_no_attempt(database, queue):
    (execution_id,) = add(database)
    (claimed,) = queue.claim("me", "f", 0, 1)
    assert queue.put_back(claimed.fence)
    stored = row(database, execution_id)
    assert (stored.runner_id, stored.attempts, stored.started_at) == (None, 0, None)
    assert not queue.put_back(claimed.fence)


@pytest.mark.parametrize("change", [{"runner_id": "other"}, {"attempts": 2},
                                    {"status": states.SUCCESS}])
def test_a_write_behind_another_fence_is_refused(database, queue, change):
    (execution_id,) = add(database)
    (claimed,) = queue.claim("me", "f", 0, 1)
    with database.writer() as connection:
        connection.execute(sa.update(TABLE).values(**change))
        assert records.end(connection, claimed.fence, states.error("late")) is None
    assert row(database, execution_id).status == change.get("status", states.RUNNING)


def test_an_execution_ends_once(database, queue):
    add(database)
    (claimed,) = queue.claim("me", "f", 0, 1)
    outcome = states.Outcome(states.SUCCESS, {"output": 1, "duration": 0.1})
    with database.writer() as connection:
        assert records.end(connection, claimed.fence, outcome) == '{"output": 1, "duration": 0.1}'
        assert records.end(connection, claimed.fence, states.error("again")) is None


def register(database, runner_id, age=0.0):
    with database.writer() as connection:
        seen = clock.read(connection) - timedelta(seconds=age)
        connection.execute(sa.insert(models.Runner.__table__), {
            "id": runner_id, "host": "h", "pid": 1, "started_at": seen, "heartbeat_at": seen,
        })


def test_the_reaper_ends_what_dead_runners_had_and_nothing_else(database):
    register(database, "dead", age=20)
    register(database, "alive", age=5)
    (orphan,) = add(database, runner_id="dead", attempts=1)
    (unknown,) = add(database, runner_id="never registered", attempts=1)
    (kept,) = add(database, runner_id="alive", attempts=1)
    (queued,) = add(database)
    assert Reaper(database, Waiters(), 15).sweep() == 2
    assert row(database, orphan).status == states.ERROR
    assert row(database, unknown).status == states.ERROR
    assert row(database, kept).status == states.RUNNING
    assert row(database, queued).status == states.RUNNING
    with database.reader() as connection:
        (result,) = records.complete(connection, [row(database, orphan)])
    assert "died" in result.result
    assert Reaper(database, Waiters(), 15).sweep() == 0


def test_the_reaper_wakes_who_waits(database):
    (orphan,) = add(database, runner_id="gone", attempts=1)
    waiters = Waiters()
    event = waiters.expect(orphan)
    Reaper(database, waiters, 15).sweep()
    assert event.is_set()


def test_the_reaper_forgets_workers_of_dead_engines(database):
    register(database, "alive")
    with database.writer() as connection:
        for name, runner in (("a", "alive"), ("b", "dead"), ("c", None)):
            connection.execute(sa.insert(models.Worker.__table__), {
                "name": name, "function_id": "f", "function_version": 0, "fingerprint": "x",
                "state": "ready", "runner_id": runner, "room": 3,
            })
    Reaper(database, Waiters(), 15).sweep()
    with database.reader() as connection:
        names = connection.execute(sa.select(models.Worker.__table__.c.name)).scalars().all()
    assert sorted(names) == ["a", "c"]


def test_a_runner_that_was_taken_for_dead_stops_its_runs(database):
    lost = threading.Event()
    runner = leases.Runner(database, 3, lost.set)
    runner.start()
    assert runner.valid
    leases.expire_all(database)
    assert lost.wait(5)
    runner.stop()
    with database.reader() as connection:
        assert connection.execute(sa.select(models.Runner.__table__)).first() is None


def test_a_runner_without_a_database_counts_its_lease_as_lost(database, monkeypatch):
    lost = threading.Event()
    runner = leases.Runner(database, 1, lost.set)
    runner.start()

    def refuse():
        raise RuntimeError("no database")

    monkeypatch.setattr(runner, "_renew", refuse)
    assert lost.wait(5)
    assert not runner.valid
    monkeypatch.undo()
    runner.stop()
