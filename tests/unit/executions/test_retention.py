# SPDX-License-Identifier: Apache-2.0
"""Old executions are deleted with all that belongs to them, running ones never."""

import threading
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import records, states
from qinling_exec.executions.idempotency import Keys
from qinling_exec.executions.retention import Periodic, Progress, Retention

pytestmark = pytest.mark.every_database
PARTS = [models.ExecutionInput, models.ExecutionResult, models.ExecutionLog]


def add(database, days, ended_days=None, status=states.SUCCESS, count=1):
    created = utcnow() - timedelta(days=days)
    ended = utcnow() - timedelta(days=days if ended_days is None else ended_days)
    ids = [models.new_id() for _ in range(count)]
    with database.writer() as connection:
        for number, execution_id in enumerate(ids):
            records.insert(connection, {
                "id": execution_id, "project_id": "mine", "function_id": "f",
                "function_version": 0, "status": status, "sync": False, "attempts": 1,
                "created_at": created + timedelta(microseconds=number // 3),
                "finished_at": None if status == states.RUNNING else ended,
            }, "{}")
            connection.execute(sa.insert(models.ExecutionResult.__table__),
                               {"execution_id": execution_id, "data": b"{}"})
            connection.execute(sa.insert(models.ExecutionLog.__table__),
                               {"execution_id": execution_id, "position": 0, "data": b"x"})
    return ids


def left(database, table=records.table):
    column = table.c.id if "id" in table.c else table.c.execution_id
    with database.reader() as connection:
        return set(connection.execute(sa.select(column)).scalars())


@pytest.fixture
def retention(database):
    return Retention(database, Keys(database, 3600), lambda _: None)


def test_old_ended_ones_go_with_all_their_parts(database, retention):
    for status in sorted(states.ENDED):
        add(database, 31, status=status, count=7)
    kept = add(database, 29, count=3) + add(database, 400, status=states.RUNNING)
    kept += add(database, 40, ended_days=5)  # waited for long, ended lately
    steps = list(retention.purge(30, 5, 1))
    assert steps[-1] == Progress(28)
    assert [step.executions for step in steps] == sorted(step.executions for step in steps)
    assert left(database) == set(kept)
    for part in PARTS:
        assert left(database, part.__table__) == set(kept)
    assert list(retention.purge(30, 5, 1))[-1:] in ([], [Progress(0)])


def test_counting_deletes_nothing(database, retention):
    add(database, 31, count=12)
    add(database, 40, ended_days=5)
    assert list(retention.count(30, 5))[-1] == Progress(12)
    assert len(left(database)) == 13


def test_a_purge_that_was_stopped_goes_on_later(database, retention):
    add(database, 31, count=20)
    next(iter(retention.purge(30, 6, 1)))
    assert len(left(database)) == 14
    assert list(retention.purge(30, 6, 1))[-1].executions == 14


def test_it_rests_in_proportion_and_stops_when_told(database):
    rests = []

    def rest(seconds):
        rests.append(seconds)
        time.sleep(0.01)
        return len(left(database)) <= 10

    add(database, 31, count=20)
    purger = Retention(database, Keys(database, 3600), rest)
    began = time.monotonic()
    list(purger.purge(30, 5, 0.1))
    assert len(left(database)) == 10
    assert 0 < sum(rests) <= (time.monotonic() - began) * 9


def test_two_at_once_delete_everything_once(database):
    add(database, 31, count=300)
    kept = add(database, 1, count=20)
    totals, errors = [], []

    def run():
        try:
            retention = Retention(database, Keys(database, 3600), lambda _: None)
            # One that comes when all is deleted has no progress to tell of.
            totals.extend([step.executions for step in retention.purge(30, 7, 1)][-1:])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(totals) == 300
    assert left(database) == set(kept)


def test_keys_whose_time_is_over_are_forgotten(database, retention):
    table = models.IdempotencyKey.__table__
    with database.writer() as connection:
        connection.execute(sa.insert(table), [
            {"project_id": "mine", "key": f"k{n}", "request_hash": "h", "execution_id": "e",
             "created_at": utcnow() - timedelta(minutes=59 + 2 * (n < 4))} for n in range(6)
        ])
    assert list(retention.purge(0, 5, 1))[-1] == Progress(0, 4)
    with database.reader() as connection:
        assert len(connection.execute(sa.select(table)).all()) == 2


def test_forgetting_keys_rests_and_stops_too(database, monkeypatch):
    """It went on without a pause, and the end of the process had to wait for it."""
    batches, rests = [1, 1, 1], []
    keys = Keys(database, 3600)
    monkeypatch.setattr(keys, "expire", lambda: batches.pop() if batches else 0)

    def rest(seconds):
        rests.append(seconds)
        return len(rests) == 2

    assert list(Retention(database, keys, rest).purge(0, 5, 0.5)) == [
        Progress(0, 1), Progress(0, 2)]
    assert batches == [1]


def test_zero_days_keep_everything(database, retention):
    add(database, 4000, count=3)
    assert list(retention.purge(0, 5, 1)) == []
    assert len(left(database)) == 3


def test_several_processes_share_their_part(database, retention):
    now = utcnow()
    assert retention.share_of_one(0.1) == 0.1
    with database.writer() as connection:
        connection.execute(sa.insert(models.Runner.__table__), [
            {"id": f"r{n}", "host": "h", "pid": n, "started_at": now, "heartbeat_at": now}
            for n in range(4)])
    assert retention.share_of_one(0.1) == 0.025


def test_it_happens_periodically_until_stopped(database):
    add(database, 31, count=5)
    periodic = Periodic(database, Keys(database, 3600), days=30, batch=2, share=1, seconds=0.02)
    periodic.start()
    until = time.monotonic() + 30
    while left(database) and time.monotonic() < until:
        time.sleep(0.02)
    periodic.stop()
    assert left(database) == set()


def test_an_error_is_not_the_end(database, monkeypatch, caplog):
    add(database, 31, count=1)
    failures = iter([RuntimeError("once")])
    real = Retention.share_of_one

    def share_of_one(self, share):
        for failure in failures:
            raise failure
        return real(self, share)

    monkeypatch.setattr(Retention, "share_of_one", share_of_one)
    periodic = Periodic(database, Keys(database, 3600), days=30, batch=2, share=1, seconds=0.02)
    periodic.start()
    until = time.monotonic() + 30
    while left(database) and time.monotonic() < until:
        time.sleep(0.02)
    periodic.stop()
    assert left(database) == set()
    assert "could not be deleted" in caplog.text
