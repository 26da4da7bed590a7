# SPDX-License-Identifier: Apache-2.0
"""Whose runs found no room in the cluster."""

import pytest

from qinling_exec.executions import room as rooms
from qinling_exec.executions.room import Room
from tests.unit.clock import Clock


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(rooms, "time", clock)
    return clock


def test_tries_come_less_often_until_something_is_given_back(clock):
    room = Room(60)
    tried = []
    for _ in range(40):
        if room.most("f"):
            room.refused("f", "full", moves=True, waited=0)
            tried.append(clock.now - 1000)
        clock.now += 1
    assert tried == [0, 1, 3, 7, 15, 23, 31, 39]
    assert room.most("g") > 1000, "others are not held up"
    clock.now += 1
    assert room.most("f") == 0
    room.freed()
    assert room.most("f") == 1


def test_several_that_are_tried_at_once_count_once(clock):
    room = Room(60)
    for _ in range(10):
        room.refused("f", "full", moves=True, waited=0)
    clock.now += 1
    assert room.most("f") == 1


def test_nobody_is_late_as_long_as_something_moves(clock):
    room = Room(10)
    for _ in range(10):
        clock.now += 5
        assert not room.refused("f", "full", moves=True, waited=1000)
    clock.now += 5
    assert not room.refused("f", "full", moves=False, waited=1000)
    clock.now += 5
    assert room.refused("f", "full", moves=False, waited=1000)


def test_who_has_just_come_is_not_late(clock):
    room = Room(10)
    room.refused("f", "full", moves=False, waited=0)
    clock.now += 20
    assert not room.refused("f", "full", moves=False, waited=9)
    assert room.refused("f", "full", moves=False, waited=10)


def test_what_was_long_ago_says_nothing(clock):
    room = Room(10)
    room.refused("f", "full", moves=False, waited=1000)
    clock.now += 100
    assert not room.refused("f", "full", moves=False, waited=1000)


def test_nobody_is_to_make_way_for_what_would_be_too_large_all_the_same(clock):
    room = Room(10)
    room.refused("f", "full", moves=None, waited=0)
    assert (room.wants("f"), room.reason("f")) == (False, "full")
    room.refused("f", "full", moves=False, waited=0)
    assert room.wants("f")
    room.found("f")
    assert not room.wants("f")


def test_the_reason_is_the_last_one(clock):
    room = Room(10)
    assert room.reason("f") == ""
    room.refused("f", "one", moves=True, waited=0)
    room.refused("f", "two", moves=True, waited=0)
    assert room.reason("f") == "two"
    room.found("f")
    assert room.reason("f") == ""
