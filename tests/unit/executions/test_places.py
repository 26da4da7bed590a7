# SPDX-License-Identifier: Apache-2.0
"""Places for waiting callers: bounded, shared by projects, with a line only where it moves."""

import threading
import time

import pytest

from qinling_exec import exceptions
from qinling_exec.executions import places
from qinling_exec.executions.places import Places


@pytest.fixture
def patient(monkeypatch):
    """Have callers expect a place for as long as a test goes on."""
    monkeypatch.setattr(places, "_PATIENCE", 60.0)
    monkeypatch.setattr(places, "_LONGEST", 60.0)
    return monkeypatch


def fill(here, project="a"):
    """Take all places that a project is given; return how many those are."""
    count = 0
    while here.try_one(project):
        count += 1
    return count


def refused(here, project="a", error=exceptions.TooManyRequests, text=None):
    with pytest.raises(error, match=text) as found, here.one(project):
        raise AssertionError
    assert found.value.headers["Retry-After"]


def call(here, project="a"):
    """Have a caller come; return its thread and what it sets when it is served."""
    served = threading.Event()

    def come():
        with here.one(project):
            served.set()

    caller = threading.Thread(target=come, daemon=True)
    caller.start()
    return caller, served


def comes_true(condition):
    """Wait for something that other threads do; tell whether they did."""
    for _ in range(5000):
        if condition():
            return True
        time.sleep(0.002)
    return False


def stands(here, count):
    """Wait until so many callers stand in line."""
    return comes_true(lambda: here._line == count)


@pytest.mark.parametrize(("limit", "alone"), [(1, 1), (2, 1), (3, 2), (8, 7), (64, 56)])
def test_one_that_is_alone_has_nearly_all(limit, alone):
    here = Places(limit, line=0)
    assert fill(here) == alone
    if limit > 1:
        refused(here, text=f"hold {alone} of the {limit} places")
    here.give_back("a")
    assert fill(here) == 1


def test_there_is_one_for_whoever_comes_while_another_wants_all():
    here = Places(64, line=0)
    assert fill(here, "a") == 56
    assert here.try_one("b")
    assert here.try_one("c")
    assert not here.try_one("a")
    assert fill(here, "b") == 6
    refused(here, "d", exceptions.Unavailable, "all 64 places")


def test_what_comes_free_is_for_those_below_their_share():
    here = Places(64, line=0)
    fill(here, "a")
    fill(here, "b")
    for _ in range(14):  # as they end
        here.give_back("a")
        assert not here.try_one("a")
        assert here.try_one("b")
    assert here._taken["b"] == 22
    here.give_back("a")
    assert not here.try_one("b")  # it has its share: eight are to be left again


def test_a_place_comes_free_after_an_error():
    here = Places(1, line=0)
    with pytest.raises(ZeroDivisionError), here.one("a"):
        raise ZeroDivisionError
    with here.one("a"):
        pass


def test_who_comes_while_places_come_free_quickly_stands_in_line(patient):
    here = Places(1, line=2)
    with here.one("a"):
        pass
    assert here.try_one("a")
    caller, served = call(here)
    assert not served.wait(0.05)
    here.give_back("a")
    assert served.wait(10)
    caller.join()


def test_the_line_goes_on_only_with_those_who_may(patient):
    here = Places(8, line=4)
    fill(here, "a")
    first, first_served = call(here, "a")
    second, second_served = call(here, "a")
    assert here.try_one("b")
    here.give_back("a")  # and seven are left again
    assert not first_served.wait(0.05)
    assert not second_served.is_set()
    here.give_back("b")
    for thread, served in ((first, first_served), (second, second_served)):
        assert served.wait(10)
        thread.join()


def test_one_project_takes_half_of_the_line(patient):
    here = Places(8, line=2)
    fill(here, "a")
    assert here.try_one("b")
    first, _ = call(here, "a")
    assert stands(here, 1)
    refused(here, "a")  # at once
    second, _ = call(here, "c")
    assert stands(here, 2)
    refused(here, "c", exceptions.Unavailable)
    here.give_back("b")
    second.join(10)
    here.give_back("a")
    first.join(10)
    assert not first.is_alive()
    assert not second.is_alive()


def test_nobody_stands_in_a_line_that_does_not_move(monkeypatch):
    monkeypatch.setattr(places, "_PATIENCE", 0.0)
    monkeypatch.setattr(places, "_LONGEST", 60.0)
    here = Places(8, line=8)
    fill(here)
    refused(here)  # at once


@pytest.fixture
def lingers():
    """Start threads that linger for long; they have to end before the test does."""
    threads = []

    def start(here, count):
        for _ in range(count):
            threads.append(threading.Thread(target=here.linger, args=(60,)))
            threads[-1].start()
        assert comes_true(lambda: here._lingering == count)

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_who_lingers_has_no_place(lingers):
    """Others have as many as before; each that is taken sends away one who lingers."""
    here = Places(8, 0)
    lingers(here, 8)
    for number in range(fill(Places(8, 0))):
        assert here.try_one("a")
        assert comes_true(lambda left=8 - number - 1: here._lingering == left)
    assert not here.try_one("a")
    assert here.try_one("b")


def test_who_lingers_is_left_alone_while_there_are_places(lingers, monkeypatch):
    here, told = Places(4, 0), []
    lingers(here, 2)
    notify = here._wanted.notify
    monkeypatch.setattr(here._wanted, "notify", lambda: told.append(notify()))
    assert (here.try_one("a"), here.try_one("b")) == (True, True)
    assert not told
    assert (here.try_one("a"), here.try_one("b")) == (True, True)
    assert len(told) == 2


def test_nobody_lingers_where_all_places_are_taken_or_lingered_for(lingers):
    here = Places(2, 0)
    lingers(here, 2)
    here.linger(60)  # returns at once
    assert here.try_one("a")
    assert here.try_one("b")
    here.linger(60)


def test_no_time_is_no_lingering():
    here = Places(2, 0)
    here.linger(0)
    here.linger(0.001)
    assert here._lingering == 0
    assert not here._released, "the line does not move for it"
