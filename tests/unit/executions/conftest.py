# SPDX-License-Identifier: Apache-2.0
"""Rows of executions, runners and workers, and the parts that work on them."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from qinling_exec.db import clock, models
from qinling_exec.db.engine import utcnow
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.executions import reaper as module
from qinling_exec.executions import records, states
from qinling_exec.executions.ending import Ending
from qinling_exec.executions.flusher import Flusher
from qinling_exec.executions.holdings import Holdings
from qinling_exec.executions.images import Images
from qinling_exec.executions.outbox import Outbox
from qinling_exec.executions.queue import Queue
from qinling_exec.executions.reaper import Reaper
from qinling_exec.executions.room import Room
from qinling_exec.executions.waiters import Waiters
from tests.unit.executions import image_runs

TABLE = records.table


class Rows:
    """Makes rows and reads them."""

    def __init__(self, database):
        self.database = database

    def insert(self, table, **values):
        with self.database.writer() as connection:
            connection.execute(sa.insert(table), values)

    def add(self, count=1, **values):
        ids = [models.new_id() for _ in range(count)]
        with self.database.writer() as connection:
            for execution_id in ids:
                records.insert(connection, {
                    "id": execution_id, "project_id": "mine", "function_id": "f",
                    "function_version": 0, "status": states.RUNNING, "sync": False,
                    "created_at": utcnow(), "attempts": 0, **values,
                }, '{"n": 1}')
        return ids

    def of(self, execution_id):
        with self.database.reader() as connection:
            return connection.execute(sa.select(TABLE).where(TABLE.c.id == execution_id)).one()

    def result(self, execution_id):
        query = sa.select(models.ExecutionResult.data).where(
            models.ExecutionResult.execution_id == execution_id)
        with self.database.reader() as connection:
            return connection.execute(query).scalar_one().decode()

    def change(self, execution_id, **values):
        with self.database.writer() as connection:
            connection.execute(sa.update(TABLE).where(TABLE.c.id == execution_id)
                               .values(**values))

    def function(self, function_id="f", **values):
        self.insert(models.Function.__table__, **{
            "id": function_id, "cpu": 100, "memory_size": 2**25, "timeout": 5, "code": "{}",
            "entry": "main.main", "project_id": "mine", "created_at": utcnow(), **values})

    def runner(self, runner_id, age=0.0):
        with self.database.writer() as connection:
            seen = clock.read(connection) - timedelta(seconds=age)
            connection.execute(sa.insert(models.Runner.__table__), {
                "id": runner_id, "host": "h", "pid": 1, "started_at": seen, "heartbeat_at": seen,
            })

    def worker(self, name, runner_id, **values):
        self.insert(models.Worker.__table__, **{
            "name": name, "function_id": "f", "function_version": 0, "fingerprint": "x",
            "state": "ready", "runner_id": runner_id, "room": 3, "created_at": utcnow(),
            "address": "unix:/nowhere", "secret": "s", **values})

    def workers(self):
        with self.database.reader() as connection:
            query = sa.select(models.Worker.name).order_by(models.Worker.name)
            return list(connection.execute(query).scalars())

    def runners(self):
        with self.database.reader() as connection:
            return set(connection.execute(sa.select(models.Runner.id)).scalars())


class Fleet:
    """Notes which runs are ended and which workers are, in the order of it."""

    def __init__(self, rows):
        self.rows = rows
        self.did = []

    def end_run(self, worker, execution_id):
        self.did.append(("end", worker.name, execution_id, self.rows.of(execution_id).status,
                         self.rows.of(execution_id).runner_id))

    def abandon(self, worker):
        self.did.append(("abandon", worker.name))
        with self.rows.database.writer() as connection:
            table = models.Worker.__table__
            connection.execute(sa.delete(table).where(table.c.name == worker.name))


class Me:
    """A runner that lives."""

    id = "me"
    may_judge = True


@pytest.fixture
def rows(database):
    return Rows(database)


@pytest.fixture
def queue(database):
    return Queue(database)


@pytest.fixture
def wakeup():
    return Wakeup()


@pytest.fixture
def waiters(database, wakeup):
    return Waiters(database, wakeup)


@pytest.fixture
def outbox():
    outbox = Outbox()
    outbox.start()
    yield outbox
    outbox.stop()


@pytest.fixture
def ending(database, wakeup, waiters, outbox):
    return Ending(database, wakeup, waiters, outbox)


@pytest.fixture
def holdings(database, ending, outbox):
    return Holdings(database, ending.put_back, outbox.has)


@pytest.fixture
def fleet(rows):
    return Fleet(rows)


@pytest.fixture
def reaper(database, rows, ending, holdings, fleet, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 60)  # on a busy machine too, a sweep is whole
    rows.runner("me")
    reaper = Reaper(database, Me(), ending, holdings, fleet, None, 15, 1)
    yield reaper
    reaper.stop()


@pytest.fixture
def driver():
    return image_runs.Driver()


@pytest.fixture
def room():
    return Room(0.5)


@pytest.fixture
def images(database, rows, driver, ending, holdings, room):
    rows.runner("me")
    rows.function(code='{"source": "image", "image": "i"}', entry=None, max_attempts=2)
    flusher = Flusher(database)
    flusher.start()
    images = Images(database, driver, image_runs.Me(), ending, holdings, flusher, 1000, 4, room,
                    lambda: None)
    driver.images = images
    yield images
    images.leave()
    flusher.stop()
