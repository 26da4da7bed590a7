# SPDX-License-Identifier: Apache-2.0
"""The limit of an engine's runs, beside a model of what a process can do."""

import pytest

from qinling_exec.executions import congestion as module
from qinling_exec.executions.congestion import FEWEST, Congestion

MOST = 64


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Have every eight ends judged, however fast the model is."""
    monkeypatch.setattr(module, "_SECONDS", 0.0)


class Machine:
    """Begins and ends so many runs a second; what is more waits."""

    def __init__(self, per_second, way=0.01):
        self.per_second = per_second
        self.way = way
        self.congestion = Congestion(MOST)

    def work(self, ran, rounds=200):
        """Have runs of some seconds, as many as may be; return the limits that were met."""
        met = []
        for _ in range(rounds):
            limit = self.congestion.limit
            took = max(ran + self.way, limit / self.per_second)
            for _ in range(8):
                self.congestion.ended(took, ran)
            met.append(self.congestion.limit)
        return met


def test_runs_that_mostly_sleep_are_not_limited():
    assert set(Machine(per_second=100).work(ran=2)) == {MOST}


def test_of_short_runs_there_are_few_and_as_many_end():
    machine = Machine(per_second=100)
    last = machine.work(ran=0.05)[-20:]
    assert min(last) >= FEWEST
    assert max(last) < MOST / 3
    assert min(last) / (0.05 + machine.way) >= machine.per_second  # enough to keep it busy


def test_a_slow_way_is_no_congestion():
    """A database far away takes its time of each run, however few there are."""
    assert Machine(per_second=1000, way=0.2).work(ran=0.01)[-1] == MOST


def test_a_way_that_becomes_slow_is_learned():
    machine = Machine(per_second=1000)
    machine.work(ran=0.01)
    machine.way = 0.2
    assert machine.work(ran=0.01)[-1] == MOST


def test_it_ends_with_its_cause():
    machine = Machine(per_second=100)
    machine.work(ran=0.05)
    machine.per_second = 10_000
    assert machine.work(ran=0.05)[-1] == MOST


def test_an_engine_of_few_threads_may_use_them_all():
    congestion = Congestion(3)
    for _ in range(100):
        congestion.ended(10, 0)
    assert congestion.limit == 3


def test_what_a_worker_says_of_its_time_can_be_nonsense():
    congestion = Congestion(MOST)
    for ran in (-1e9, 1e300, float("nan")) * 100:
        congestion.ended(0.1, ran)
    for _ in range(100):
        congestion.ended(0.0, 0.0)
    assert FEWEST <= congestion.limit <= MOST
