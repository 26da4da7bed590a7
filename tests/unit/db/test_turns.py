# SPDX-License-Identifier: Apache-2.0
"""A lock that projects take in turns, and several places of the same kind."""

import threading
import time

import pytest

from qinling_exec.context import RequestContext
from qinling_exec.db.turns import Turns


@pytest.fixture
def come():
    """Have callers of projects take a turn; they note whose turn it was."""
    callers = []

    def start(turns, project, order):
        def take():
            RequestContext(project_id=project)
            turns.take()
            order.append(project)
            turns.give()

        callers.append(threading.Thread(target=take))
        before = in_line(turns)
        callers[-1].start()
        for _ in range(5000):
            if in_line(turns) > before:
                return
            time.sleep(0.002)
        raise AssertionError("it does not stand in line")

    yield start
    for caller in callers:
        caller.join(10)
        assert not caller.is_alive()


def in_line(turns):
    return sum(len(line) for line in list(turns._lines.values()))


def test_one_of_each_project_comes_before_the_second_of_any(come):
    turns, order = Turns(), []
    turns.take()
    for project in "aaaabc":
        come(turns, project, order)
    turns.give()
    for _ in range(5000):
        if len(order) == 6:
            break
        time.sleep(0.002)
    assert order == ["a", "b", "c", "a", "a", "a"]
    assert not turns.wanted


def test_so_many_have_it_at_once():
    turns = Turns(2)
    assert turns.take()
    assert turns.take()
    assert not turns.take(patience=0.01)
    turns.give()
    assert turns.take(patience=0.01)
    turns.give()
    turns.give()
    assert [turns.take(patience=0.01) for _ in range(3)] == [True, True, False]


def test_who_loses_patience_goes_on_and_holds_nothing():
    turns = Turns()
    turns.take()
    with turns.one(patience=0.01):
        assert not turns.wanted
    turns.give()
    with turns.one(patience=0.01):
        assert not turns.take(patience=0.01)
    assert turns.take(patience=0.01)


def test_a_turn_that_comes_as_patience_ends_is_not_lost():
    turns = Turns()
    turns.take()
    gate = threading.Lock()
    gate.acquire()
    turns._lines[""] = [gate]
    turns._lines.clear()  # as when it was handed over between the two
    assert not turns._leave("", gate)
