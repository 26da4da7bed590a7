# SPDX-License-Identifier: Apache-2.0
"""Leases: kept while all is well, given up in time, and hangs that are noticed."""

import threading

import pytest

from qinling_exec.executions import leases
from tests.functional import processes

pytestmark = pytest.mark.every_database


@pytest.fixture
def start(database):
    started = []

    def make(lease, on_lost=lambda: None):
        runner = leases.Runner(database, lease, on_lost)
        runner._exit = lambda status: None
        runner.start()
        started.append(runner)
        return runner

    yield make
    for runner in started:
        runner.stop()


def refuse():
    raise RuntimeError("no database")


def test_a_runner_is_there_until_it_signs_off(database, rows):
    runner = leases.Runner(database, 3, lambda: None)
    runner.start()
    assert runner.valid
    assert runner.may_judge
    assert rows.runners() == {runner.id}
    runner.stop()
    assert rows.runners() == set()


def test_one_that_was_taken_for_dead_stops_its_runs_and_is_another_one_from_then_on(
        database, rows, start):
    lost = threading.Event()
    runner = start(3, lost.set)
    before = runner.id
    leases.expire_all(database)
    assert lost.wait(5)
    assert processes.wait_for(lambda: runner.id != before and runner.valid, 5)
    assert processes.wait_for(lambda: rows.runners() == {runner.id}, 5)


def test_what_had_begun_before_that_is_not_its_own_any_more(database, start):
    runner = start(3)
    before = runner.id
    assert runner.holds(before)
    leases.expire_all(database)
    assert processes.wait_for(lambda: runner.id != before and runner.valid, 5)
    assert not runner.holds(before)
    assert runner.holds(runner.id)


def test_one_without_a_database_stops_its_runs_before_its_lease_ends(start, monkeypatch):
    lost = threading.Event()
    runner = start(2, lost.set)
    monkeypatch.setattr(runner, "_renew", refuse)
    assert lost.wait(2)
    assert not runner.valid
    assert not runner.may_judge


def test_one_that_hangs_in_the_database_stops_its_runs_all_the_same(start, monkeypatch):
    lost, over = threading.Event(), threading.Event()
    runner = start(2, lost.set)
    monkeypatch.setattr(runner, "_renew", over.wait)
    assert lost.wait(2)
    over.set()


def test_after_an_outage_others_get_the_time_of_a_lease(start, monkeypatch):
    lost = threading.Event()
    runner = start(1, lost.set)
    monkeypatch.setattr(runner, "_renew", refuse)
    assert lost.wait(5)
    monkeypatch.undo()
    assert processes.wait_for(lambda: runner.valid, 5)
    assert not runner.may_judge
    assert processes.wait_for(lambda: runner.may_judge, 5)


def test_a_main_loop_that_hangs_is_noticed(start, rows, caplog):
    lost, exited = threading.Event(), []
    runner = start(1, lost.set)
    runner._exit = exited.append
    runner.beat()
    assert lost.wait(5)
    assert processes.wait_for(lambda: exited, 5)
    assert exited == [leases.HUNG_STATUS]
    assert "hangs" in caplog.text
    assert rows.runners() == set()


def test_a_main_loop_that_waits_for_a_lost_database_is_no_hang(start, monkeypatch):
    runner, exited = start(1), []
    runner._exit = exited.append
    runner.beat()
    monkeypatch.setattr(runner, "_renew", refuse)
    assert processes.wait_for(lambda: not runner.valid, 5)
    processes.wait_for(lambda: exited, 1.0)
    assert exited == []
