# SPDX-License-Identifier: Apache-2.0
"""Slots: this process's count of runs on workers."""

from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.workers import Worker


def worker(name, room=2, engine=None):
    return Worker(name, "f", 0, "shape", "ready", engine, "unix:/x", room, "secret")


def test_the_least_busy_worker_is_chosen_until_all_are_full():
    slots, pair = Slots(), [worker("a"), worker("b")]
    chosen = [slots.borrow(pair).name for _ in range(4)]
    assert sorted(chosen) == ["a", "a", "b", "b"]
    assert set(chosen[:2]) == {"a", "b"}
    assert slots.borrow(pair) is None
    assert slots.free(pair) == 0


def test_an_engine_takes_its_own_workers_first():
    slots, some = Slots(), [worker("theirs", engine="other"), worker("mine", engine="me")]
    chosen = [slots.borrow(some, {}, "me").name for _ in range(4)]
    assert chosen == ["mine", "mine", "theirs", "theirs"]


def test_a_slot_given_back_can_be_borrowed_again_and_rings():
    slots, one = Slots(), worker("a", room=1)
    rung = []
    slots.on_free = lambda: rung.append(True)
    slots.borrow([one])
    assert slots.busy("a")
    slots.give_back(one)
    assert not slots.busy("a")
    assert rung == [True]
    assert slots.borrow([one]) is one


def test_a_worker_that_refused_is_left_alone_for_a_moment():
    slots, one = Slots(), worker("a", room=3)
    slots.borrow([one])
    slots.give_back(one, full=True)
    assert slots.borrow([one]) is None


def test_a_worker_shows_no_secret():
    assert "secret" not in repr(worker("a")) + str(worker("a"))
