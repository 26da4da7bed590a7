# SPDX-License-Identifier: Apache-2.0
"""Runtimes in error are tried again; the orchestrator fails as long as the test says."""

import itertools

import pytest
import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.orchestrator import pools as pools_module
from qinling_exec.orchestrator.base import OrchestratorError
from qinling_exec.orchestrator.pools import Pools
from tests.unit.clock import Clock

TABLE = models.Runtime.__table__


class Failing:
    """Makes pools unless there is a reason not to."""

    def __init__(self):
        self.reason, self.asked = "no image", 0

    def ensure_pool(self, pool):
        self.asked += 1
        if self.reason:
            raise OrchestratorError(self.reason)

    def capacity(self, runtime_id):
        return None


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(100.0)
    monkeypatch.setattr(pools_module, "time", clock)
    return clock


@pytest.fixture
def runtime(database):
    with database.writer() as connection:
        connection.execute(sa.insert(TABLE), {
            "id": "r", "image": "i", "status": "error", "status_reason": "no image",
            "project_id": "mine", "created_at": utcnow()})

    def read():
        with database.reader() as connection:
            return connection.execute(sa.select(TABLE)).one()

    return read


def once(key, work):
    work()
    return True


def test_a_runtime_in_error_is_tried_again_less_and_less_often(database, runtime, clock):
    driver = Failing()
    pools = Pools(database, driver)
    asked = []
    for _ in range(2000):
        before = driver.asked
        pools.tend(once)
        if driver.asked > before:
            asked.append(clock.now)
        clock.now += 1
    assert asked[0] == 105
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps[:6] == [10, 20, 40, 80, 160, 300]
    assert set(gaps[6:]) == {300}
    assert (runtime().status, runtime().updated_at) == ("error", None)


def test_it_says_what_is_wrong_now_and_recovers(database, runtime, clock):
    driver = Failing()
    pools = Pools(database, driver)
    driver.reason = "over quota"
    for clock.now in (100, 105):
        pools.tend(once)
    assert (runtime().status, runtime().status_reason) == ("error", "over quota")
    driver.reason = None
    for clock.now in (110, 115):
        pools.tend(once)
    assert (runtime().status, runtime().status_reason) == ("available", None)
    pools.tend(once)
    assert driver.asked == 2, "it is made, and not made again"
    assert pools.ready


def test_one_at_a_time(database, runtime, clock):
    with database.writer() as connection:
        connection.execute(sa.insert(TABLE), {
            "id": "s", "image": "i", "status": "error", "project_id": "mine",
            "created_at": utcnow()})
    driver, waiting = Failing(), []
    pools = Pools(database, driver)
    for clock.now in (100, 105, 106):
        pools.tend(lambda key, work: waiting.append(work) or True)
    assert len(waiting) == 1
    waiting.pop()()
    pools.tend(lambda key, work: waiting.append(work) or True)
    assert len(waiting) == 1


def test_a_reason_that_is_too_long_shows_that_it_was_cut(database, runtime, clock):
    orchestrator = Failing()
    orchestrator.reason = "x" * 300
    pools = Pools(database, orchestrator)
    pools.tend(once)
    clock.now += 60
    pools.tend(once)
    assert runtime().status_reason == "x" * 254 + "…"
