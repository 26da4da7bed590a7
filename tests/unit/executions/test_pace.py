# SPDX-License-Identifier: Apache-2.0
"""Projects whose executions wait rest between them, while others ask for some too."""

import threading

import pytest

from qinling_exec.executions import pace as module
from qinling_exec.executions.pace import Pace
from qinling_exec.executions.places import Places

BUSY = 0.003
REST = module._REST * BUSY


class Clock:
    """Time that passes only for those who sleep."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def places():
    return Places(8, line=0)


def send(pace, project="a"):
    pace.asked(project)
    pace.rest(project, BUSY)


def test_alone_it_does_not_rest(clock, places):
    pace = Pace(places)
    for _ in range(3):
        send(pace)
    assert clock.slept == []


def test_beside_another_it_rests_in_proportion_to_its_work(clock, places):
    pace = Pace(places)
    pace.asked("b")
    for _ in range(3):
        send(pace)
    assert clock.slept == pytest.approx([REST] * 3)


def test_who_has_gone_is_no_reason_to_rest(clock, places):
    pace = Pace(places)
    pace.asked("b")
    clock.now += module._WINDOW
    send(pace)
    assert clock.slept == []
    assert list(pace._senders) == ["a"]


def test_who_asked_before_the_window_is_forgotten_when_anybody_asks(clock, places):
    pace = Pace(places)
    for number in range(100):
        pace.asked(f"p{number}")
    clock.now += module._WINDOW
    pace.asked("a")
    assert list(pace._senders) == ["a"]


def test_what_took_longer_than_the_window_need_not_rest(clock, places):
    pace = Pace(places)
    pace.asked("a")
    clock.now += module._WINDOW
    pace.asked("b")
    pace.rest("a", BUSY)
    assert clock.slept == []


def test_several_callers_of_a_project_rest_one_after_the_other(clock, places, monkeypatch):
    """Each is answered a rest later than the one before, however many there are."""
    pace = Pace(places)
    pace.asked("b")
    monkeypatch.setattr(clock, "sleep", clock.slept.append)
    for _ in range(3):
        send(pace)
    assert clock.slept == pytest.approx([REST, 2 * REST, 3 * REST])


def test_a_rest_is_limited(clock, places):
    pace = Pace(places)
    pace.asked("b")
    pace.asked("a")
    pace.rest("a", 60.0)
    assert clock.slept == [module._LONGEST]


def test_places_are_left_for_those_who_wait(clock, places, monkeypatch):
    """Half of them are for those who rest, and each is given back."""
    entered, leave = threading.Semaphore(0), threading.Event()

    def sleep(seconds):
        entered.release()
        leave.wait(10)

    monkeypatch.setattr(clock, "sleep", sleep)
    pace = Pace(places)
    pace.asked("b")
    most = places.limit // module._PART
    threads = [threading.Thread(target=send, args=(pace,)) for _ in range(most)]
    for thread in threads:
        thread.start()
        assert entered.acquire(timeout=10)
    assert places._taken == {"a": most}
    send(pace)  # returns at once
    assert places._taken == {"a": most}
    leave.set()
    for thread in threads:
        thread.join(10)
    assert not places._taken
    send(pace)
    assert entered.acquire(timeout=10)


def test_without_a_place_it_does_not_rest(clock, places):
    pace = Pace(places)
    pace.asked("b")
    while places.try_one("a"):
        pass
    send(pace)
    assert clock.slept == []
