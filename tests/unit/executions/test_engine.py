# SPDX-License-Identifier: Apache-2.0
"""What an engine does in one turn, with a fleet and a plan that only note what they are asked."""

from collections import Counter
from types import SimpleNamespace

import pytest

from qinling_exec.executions.engine import Engine
from qinling_exec.executions.planning import View


class Fleet:
    def __init__(self, done):
        self.done = done
        self.ready = True

    def tend(self):
        self.done.append("tend")


class Planning:
    def __init__(self, done):
        self.done = done

    def look(self, whole=False):
        self.done.append("look")
        return View()

    def claims(self, view, running, threads):
        return {}

    def want_workers(self, view, crowded):
        self.done.append("want")


@pytest.fixture
def done():
    return []


@pytest.fixture
def build(database, wakeup, done):
    """Return a function that makes an engine of so many threads."""
    def engine_of(threads):
        runner = SimpleNamespace(beat=lambda: None, valid=True)
        options = SimpleNamespace(run_threads=threads, max_age=60)
        return Engine(database, wakeup, runner, None, Fleet(done), None, Planning(done), None,
                      None, None, None, None, options)

    return engine_of


@pytest.fixture
def engine(build):
    return build(1)


@pytest.fixture
def roomy(build):
    return build(2)


def test_workers_that_are_wanted_are_started_in_the_same_turn(engine, done):
    """They were at the next one: each first execution had waited 50 ms, and for another look."""
    engine._turn()
    done.clear()
    engine._turn()
    assert done == ["look", "want", "tend"]


def test_workers_are_tended_even_when_the_queue_cant_be_read(engine, done):
    engine._turn()
    engine._planning.look = lambda whole: 1 / 0
    done.clear()
    with pytest.raises(ZeroDivisionError):
        engine._turn()
    assert done == ["tend"]


def test_nothing_is_claimed_before_there_are_pools(engine, done):
    engine._fleet.ready = False
    assert engine._turn() is False
    assert (Counter(done), engine.wait_ready(0)) == ({"tend": 1}, False)
    engine._fleet.ready = True
    engine._turn()
    assert engine.wait_ready(0)


def test_only_a_project_with_nothing_at_work_need_not_wait_for_a_look(roomy):
    assert roomy.reserve("a")
    assert not roomy.reserve("a")
    assert roomy.reserve("b")
    assert not roomy.reserve("c")  # no thread is free
    roomy.release("a")
    assert roomy.reserve("c")


def test_nobody_overtakes_what_its_own_project_has_in_the_queue(roomy, wakeup):
    wakeup.ring("a")
    assert not roomy.reserve("a")
    roomy._serve_queue()  # it looks, and nothing waits
    assert roomy.reserve("a")


def test_newcomers_leave_places_to_those_that_wait(build):
    engine = build(16)
    assert sum(engine.reserve(str(number)) for number in range(20)) == 14


def test_an_engine_that_is_to_end_begins_nothing(roomy):
    roomy._stop.set()
    assert not roomy.reserve("a")
