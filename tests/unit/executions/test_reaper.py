# SPDX-License-Identifier: Apache-2.0
"""The reaper: what dead runners had is ended or begun again, and nothing else."""

import threading

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import reaper as module
from qinling_exec.executions import states
from qinling_exec.executions.queue import Group
from qinling_exec.executions.reaper import Reaper
from tests.functional import processes

pytestmark = pytest.mark.every_database


class Other:
    id = "other"
    may_judge = True


def test_what_dead_runners_had_ends_and_nothing_else(reaper, rows):
    rows.runner("dead", age=20)
    rows.runner("alive", age=5)
    (orphan,) = rows.add(runner_id="dead", attempts=1)
    (unknown,) = rows.add(runner_id="never registered", attempts=1)
    (kept,) = rows.add(runner_id="alive", attempts=1)
    (queued,) = rows.add()
    assert reaper.sweep() == 2
    assert rows.of(orphan).status == rows.of(unknown).status == states.ERROR
    assert rows.of(kept).status == rows.of(queued).status == states.RUNNING
    assert "died" in rows.result(orphan)
    assert rows.runners() == {"me", "alive"}
    assert reaper.sweep() == 0


def test_its_run_is_ended_before_it_may_be_begun_again(reaper, rows, fleet):
    rows.function(max_attempts=2)
    rows.worker("w", "me")
    (orphan,) = rows.add(runner_id="dead", attempts=1, worker="w")
    assert reaper.sweep() == 1
    assert fleet.did == [("end", "w", orphan, states.RUNNING, "me")]
    stored = rows.of(orphan)
    assert (stored.status, stored.runner_id, stored.worker, stored.attempts) == (
        states.RUNNING, None, None, 1)
    assert stored.retry_at is not None


def test_what_nobody_could_end_is_not_begun_again(reaper, rows, fleet, monkeypatch):
    def fails(worker, execution_id):
        raise TimeoutError("no engine has ended it")

    monkeypatch.setattr(fleet, "end_run", fails)
    rows.function(max_attempts=5)
    rows.worker("w", "me")
    (orphan,) = rows.add(runner_id="dead", attempts=1, worker="w")
    assert reaper.sweep() == 1
    assert rows.of(orphan).status == states.ERROR
    assert "It may go on" in rows.result(orphan)


def test_attempts_come_to_an_end(reaper, rows):
    rows.function(max_attempts=2)
    (orphan,) = rows.add(runner_id="dead", attempts=2)
    reaper.sweep()
    assert rows.of(orphan).status == states.ERROR


def test_what_is_to_be_cancelled_is_not_begun_again(reaper, rows):
    rows.function(max_attempts=5)
    (orphan,) = rows.add(runner_id="dead", attempts=1, cancel_requested_at=utcnow())
    reaper.sweep()
    assert rows.of(orphan).status == states.CANCELLED


def test_workers_of_dead_engines_are_ended(reaper, rows, fleet):
    rows.worker("a", "me")
    rows.worker("b", "dead")
    rows.worker("c", None)
    reaper.sweep()
    assert fleet.did == [("abandon", "b")]
    assert rows.workers() == ["a", "c"]


def test_who_waits_is_woken(reaper, rows, waiters):
    (orphan,) = rows.add(runner_id="gone", attempts=1)
    event = waiters.expect(orphan)
    reaper.sweep()
    assert event.is_set()


def test_two_reapers_at_once_do_no_harm(database, reaper, rows, ending, holdings, fleet):
    rows.function(max_attempts=2)
    rows.worker("w", "me")
    rows.runner("other")
    ids = rows.add(20, runner_id="dead", attempts=1, worker="w")
    other = Reaper(database, Other(), ending, holdings, fleet, None, 15, 1)
    counts = []
    threads = [threading.Thread(target=lambda one=one: counts.append(one.sweep()))
               for one in (reaper, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.stop()
    assert sum(counts) == 20
    assert sorted(item[2] for item in fleet.did) == sorted(ids)  # each ended once
    assert {rows.of(execution_id).attempts for execution_id in ids} == {1}
    assert {rows.of(execution_id).runner_id for execution_id in ids} == {None}


def test_what_an_error_stops_is_gone_on_with_and_not_begun_once_more(reaper, rows, fleet,
                                                                     holdings, monkeypatch):
    rows.worker("w", "me")
    (orphan,) = rows.add(runner_id="dead", attempts=1, worker="w")
    end_run = fleet.end_run

    def fail(worker, execution_id):
        raise RuntimeError("the cluster does not answer")

    monkeypatch.setattr(fleet, "end_run", fail)
    assert [reaper.sweep(), reaper.sweep()] == [0, 0]
    assert [holdings.check("me") for _ in range(3)] == [0, 0, 0]
    assert (rows.of(orphan).status, rows.of(orphan).runner_id) == (states.RUNNING, "me")
    monkeypatch.setattr(fleet, "end_run", end_run)
    assert reaper.sweep() == 1
    assert fleet.did[0][:3] == ("end", "w", orphan)
    assert rows.of(orphan).status == states.ERROR


def test_a_take_over_of_which_nobody_knows_whether_it_was_done_is(reaper, rows, holdings,
                                                                  monkeypatch):
    rows.function(max_attempts=2)
    (orphan,) = rows.add(runner_id="dead", attempts=1, started_at=utcnow())
    take_over = reaper._take_over

    def cut(*arguments):
        take_over(*arguments)
        raise exceptions.Unavailable("cut during COMMIT")

    monkeypatch.setattr(reaper, "_take_over", cut)
    assert reaper.sweep() == 0
    assert [holdings.check("me") for _ in range(3)] == [0, 0, 0]
    monkeypatch.undo()
    assert reaper.sweep() == 1
    assert (rows.of(orphan).runner_id, rows.of(orphan).attempts) == (None, 1)


def test_what_is_claimed_meanwhile_is_no_orphan(reaper, rows, queue, monkeypatch):
    rows.function()
    (orphan,) = rows.add(runner_id="dead", attempts=1, started_at=utcnow())
    take_over = reaper._take_over
    fence, started_at = states.Fence(orphan, "dead", 1), rows.of(orphan).started_at

    def late(*arguments):
        queue.put_back(fence, started_at)  # the dead one was not quite dead
        assert queue.claim("me", Group("f", 0, "mine", utcnow()), ["w"])
        return take_over(*arguments)

    monkeypatch.setattr(reaper, "_take_over", late)
    assert reaper.sweep() == 0
    assert (rows.of(orphan).status, rows.of(orphan).runner_id) == (states.RUNNING, "me")


def test_a_runner_that_came_back_in_time_keeps_what_it_has(database, reaper, rows):
    rows.runner("slow", age=14)
    (kept,) = rows.add(runner_id="slow", attempts=1)
    assert reaper.sweep() == 0
    with database.writer() as connection:
        connection.execute(sa.delete(models.Runner.__table__)
                           .where(models.Runner.id == "slow"))
    assert reaper.sweep() == 1
    assert rows.of(kept).status == states.ERROR


def test_a_worker_that_hangs_does_not_keep_other_dead_runners_from_being_noticed(
        reaper, rows, fleet, monkeypatch):
    """The sweep waited for it: what another runner had was noticed seconds too late."""
    rows.worker("hangs", "me")
    rows.worker("w", "me")
    (slow,) = rows.add(runner_id="dead", attempts=1, worker="hangs")
    end_run, goes_on = fleet.end_run, threading.Event()

    def hang(worker, execution_id):
        if worker.name == "hangs":
            assert goes_on.wait(60)
        end_run(worker, execution_id)

    monkeypatch.setattr(fleet, "end_run", hang)
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    assert reaper.sweep() == 0
    monkeypatch.setattr(module, "_PATIENCE", 60)
    (other,) = rows.add(runner_id="dead too", attempts=1, worker="w")
    assert reaper.sweep() == 1
    assert (rows.of(other).status, rows.of(slow).status) == (states.ERROR, states.RUNNING)
    goes_on.set()
    reaper._pool.shutdown(wait=True)
    assert rows.of(slow).status == states.ERROR
    assert [item[2] for item in fleet.did] == [other, slow]  # each once


def test_a_silent_runner_is_dead_when_its_lease_ends(database, rows, ending, holdings, fleet):
    """Not up to a sweep later, which is a minute here."""
    rows.runner("me")
    rows.runner("silent", age=13)
    (orphan,) = rows.add(runner_id="silent", attempts=1)
    reaper = Reaper(database, Other(), ending, holdings, fleet, None, 15, 60)
    reaper.sweep()
    assert 0 < reaper._next_end <= 2
    assert rows.of(orphan).status == states.RUNNING
    reaper.start()
    try:
        assert processes.wait_for(lambda: rows.of(orphan).status == states.ERROR, 30)
    finally:
        reaper.stop()
