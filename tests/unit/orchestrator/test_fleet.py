# SPDX-License-Identifier: Apache-2.0
"""The fleet, with an orchestrator that only notes what it is asked for."""

from __future__ import annotations

import logging
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from qinling_exec.catalogue.packages import FileStore
from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.executions import targets
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.background import UNCHANGED
from qinling_exec.orchestrator.base import Capacity, WorkerAddress
from qinling_exec.orchestrator.fleet import Fleet
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.teaching import Teacher
from qinling_exec.orchestrator.wire import Wire
from qinling_exec.orchestrator.workers import Workers
from tests.functional import processes


class Noted:
    """Gives workers out and notes which came back."""

    def __init__(self) -> None:
        self.released: list[str] = []

    shared = False

    def listen(self, on_lost):
        pass

    def ensure_pool(self, pool):
        pass

    def take(self, runtime_id, name, size, no_room):
        return WorkerAddress(name, "unix:/nowhere", "secret")

    def loss(self, name):
        return ""

    def release(self, name):
        self.released.append(name)

    def capacity(self, runtime_id):
        return None

    def close(self):
        pass


@pytest.fixture
def function(database):
    """A function whose package is not in the store."""
    runtime_id, function_id, package = models.new_id(), models.new_id(), "0" * 64
    with database.writer() as connection:
        connection.execute(sa.insert(models.Runtime.__table__), {
            "id": runtime_id, "image": "i", "status": "available", "project_id": "mine",
            "is_public": True, "trusted": True, "created_at": utcnow(),
        })
        connection.execute(sa.insert(models.Package.__table__), {
            "sha256": package, "md5": "0" * 32, "size": 1,
        })
        connection.execute(sa.insert(models.Function.__table__), {
            "id": function_id, "cpu": 100, "memory_size": 2**25, "timeout": 5,
            "runtime_id": runtime_id, "code": "{}", "entry": "main.main", "project_id": "mine",
            "created_at": utcnow(), "package": package,
        })
    return function_id


def test_package_deleted_while_a_worker_starts(database, function, tmp_path, caplog):
    """Once NotFound got through: a traceback in the log, and the worker stayed for a while."""
    table, orchestrator = Workers(database, Wakeup(), 3), Noted()
    with database.writer() as connection:
        target = targets.load(connection, function, 0)
        table.want(connection, function, 0, target.fingerprint, 1)
    fleet = Fleet(database, orchestrator, table, Slots(), Wire(), FileStore(str(tmp_path)),
                  lambda: "me", {}, lambda: 3600, 5)
    (name,) = table.names(function, 0, 10)
    with caplog.at_level(logging.WARNING):
        fleet.tend()
        processes.wait_for(lambda: table.names(function, 0, 10) == [], 20)
        fleet.close()
    assert orchestrator.released == [name]
    assert [record.exc_info for record in caplog.records] == [None]
    assert "package is not there" in caplog.text


@pytest.mark.parametrize("shared", [False, True])
def test_a_worker_that_was_given_up_is_ended_before_it_is_forgotten(database, tmp_path, shared):
    """Its row went first, and its pod up to 15 s later: a run could begin again beside it."""
    class Slow(Noted):
        def release(self, name):
            self.there = table.loss(name) is None
            super().release(name)

    table, orchestrator = Workers(database, Wakeup(), 3), Slow()
    orchestrator.shared = shared
    with database.writer() as connection:
        table.want(connection, "f", 0, "x", 1, "dead" if shared else "me")
    (name,) = table.names("f", 0, 10)
    fleet = Fleet(database, orchestrator, table, Slots(), Wire(), FileStore(str(tmp_path)),
                  lambda: "me", {}, lambda: 3600, 5)
    fleet._reconciler._looked = time.monotonic()  # that is not what is to end it
    table.give_up(name, by_any=shared)
    assert table.names("f", 0, 10) == []
    table.drain("me")  # it stays given up
    fleet.tend()
    assert processes.wait_for(lambda: table.loss(name) is not None, 20)
    fleet.close()
    assert (orchestrator.released, orchestrator.there) == ([name], True)


def test_a_hanging_worker_of_another_engine_is_waited_for(database, tmp_path):
    """It was forgotten, and lived on: the next attempt could begin beside what it still ran."""
    table = Workers(database, Wakeup(), 3)
    with database.writer() as connection:
        table.want(connection, "f", 0, "x", 1, "other")
    (name,) = table.names("f", 0, 10)
    fleet = Fleet(database, Noted(), table, Slots(), Wire(), FileStore(str(tmp_path)),
                  lambda: "me", {}, lambda: 3600, 5)
    with socket.create_server(str(tmp_path / "hangs"), family=socket.AF_UNIX):
        table.started(name, f"unix:{tmp_path}/hangs", "secret")
        (worker,) = table.of_engine("other")
        waiter = threading.Thread(target=fleet.end_hung, args=(worker,))
        waiter.start()
        assert processes.wait_for(lambda: table.of_engine("other")[0].state == workers.ENDING, 20)
        waiter.join(0.5)
        assert waiter.is_alive(), "its own engine has not ended it"
        table.remove(name)  # so does whoever takes that engine for dead
        waiter.join(0.5)
        assert waiter.is_alive(), "its process is there"
    waiter.join(20)
    assert not waiter.is_alive()
    fleet.close()


def test_a_worker_that_is_too_busy_to_answer_is_not_ended_with_its_runs(database, tmp_path,
                                                                        monkeypatch):
    """One slow answer, and what other processes ran on a worker that was to go was lost."""
    class There(Noted):
        def alive(self, name):
            return True

    table, orchestrator = Workers(database, Wakeup(), 3), There()
    with database.writer() as connection:
        table.want(connection, "f", 0, "x", 1, "me")
    (name,) = table.names("f", 0, 10)
    with database.writer() as connection:
        connection.execute(sa.insert(models.Execution.__table__), {
            "id": "e", "project_id": "p", "function_id": "f", "function_version": 0,
            "status": "running", "sync": True, "created_at": utcnow(), "attempts": 1,
            "worker": name})
    table.started(name, "unix:/nowhere", "secret")
    (worker,) = table.of_engine("me")
    fleet = Fleet(database, orchestrator, table, Slots(), Wire(), FileStore(str(tmp_path)),
                  lambda: "me", {}, lambda: 3600, 5)
    monkeypatch.setattr("qinling_exec.orchestrator.fleet._GRACE_SECONDS", 0)
    assert fleet._retire(worker) is UNCHANGED
    with database.writer() as connection:
        connection.execute(sa.update(models.Execution.__table__).values(status="success"))
    fleet._retire(worker)
    assert orchestrator.released == [name]
    fleet.close()


def test_the_engine_rests_while_the_cluster_can_not_be_reached(database, tmp_path):
    """Each look in vain for what is nobody's rang the bell, and the next one followed at once."""
    class Away(Noted):
        shared = True

        def workers(self):
            asked.set()
            return None

    asked = threading.Event()
    table = Workers(database, Wakeup(), 3)
    fleet = Fleet(database, Away(), table, Slots(), Wire(), FileStore(str(tmp_path)),
                  lambda: "me", {}, lambda: 3600, 5)
    fleet.tend()
    assert asked.wait(20)
    fleet._pool_background.stop()  # what was begun is done, and whoever waits for it was told
    rang = table.wakeup.wait(0)
    fleet.close()
    assert (rang, fleet._reconciler.is_due) == (False, True)


class Taught(Noted):
    """Has a pool of two, and workers that learn whatever they are given."""

    def __init__(self):
        super().__init__()
        self.free, self.fitted = 2, threading.Event()

    def take(self, runtime_id, name, size, no_room):
        self.free -= 1
        return super().take(runtime_id, name, size, no_room)

    def capacity(self, runtime_id):
        return Capacity(2, self.free)

    def fit(self, name, size):
        self.fitted.wait(20)


@pytest.fixture
def started(database, function, tmp_path, monkeypatch):
    """A fleet that starts a worker, and whose orchestrator does not get done with fitting it."""
    table, orchestrator = Workers(database, Wakeup(), 3), Taught()
    fleet = Fleet(database, orchestrator, table, Slots(), Wire(), FileStore(str(tmp_path)),
                  lambda: "me", {}, lambda: 3600, 5)
    monkeypatch.setattr(Teacher, "teach", lambda *_arguments: None)
    fleet.tend()
    fleet._pool_background.stop()  # the pool is made, and whoever waited for it was told
    table.wakeup.wait(0)
    with database.writer() as connection:
        target = targets.load(connection, function, 0)
        table.want(connection, function, 0, target.fingerprint, 1, "me")
    fleet.tend()
    yield SimpleNamespace(fleet=fleet, table=table)
    orchestrator.fitted.set()
    fleet.close()


def test_runs_do_not_wait_until_their_worker_has_its_size(started):
    """The bell rang when all was done: a first run had waited for a call of the cluster."""
    assert started.table.wakeup.wait(20)
    assert {worker.state for worker in started.table.of_engine("me")} == {workers.READY}


def test_the_figures_of_a_pool_are_right_as_soon_as_a_worker_was_taken(started, database):
    """They were up to two seconds old: who waited for a full pool found an empty one."""
    assert started.table.wakeup.wait(20)
    started.fleet.tend()
    with database.reader() as connection:
        assert connection.execute(sa.select(
            models.Runtime.__table__.c.pool_available)).scalar_one() == 1
