# SPDX-License-Identifier: Apache-2.0
"""Projects whose executions wait rest between them, while others ask for some too."""

import pytest

from qinling_exec.executions import rests as module
from qinling_exec.executions.rests import Rests
from tests.unit.clock import Clock

BUSY = 0.003
REST = module._REST * BUSY
#: Executions in a row for which a project has credit.
FREE = int(module._CREDIT / REST) + 1


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def send(clock):
    """Have an execution of a project accepted; returns how long it is to rest."""
    rests = Rests()

    def send(project="a"):
        rests.accepted(project)
        return rests.rest(project, BUSY)

    send.rests = rests
    send.spend = lambda project="a": [send(project) for _ in range(FREE)]
    return send


def test_alone_it_does_not_rest(send):
    assert [send() for _ in range(3)] == [0, 0, 0]


def test_beside_another_it_rests_in_proportion_to_its_work(send, clock):
    send("b")
    assert set(send.spend()) == {0}
    clock.now += send()
    rests = []
    for _ in range(3):
        rests.append(send())
        clock.now += rests[-1]
    assert rests == pytest.approx([REST] * 3)


def test_some_in_a_row_are_free_again_after_a_while(send, clock):
    """Of the one who sends now and then, and more than one at a time."""
    send("b")
    send.spend()
    clock.now += module._CREDIT + REST
    send("b")
    assert set(send.spend()) == {0}
    assert send() > 0


def test_who_leaves_as_much_time_by_itself_does_not_rest(send, clock):
    """Each pays for the one before: what comes now and then is answered at once."""
    for _ in range(3):
        assert (send("a"), send("b")) == (0, 0)
        clock.now += REST


def test_several_callers_of_a_project_rest_one_after_the_other(send):
    """Each is answered a rest later than the one before, however many there are."""
    send("b")
    send.spend()
    first, *others = [send() for _ in range(4)]
    assert others == pytest.approx([first + REST, first + 2 * REST, first + 3 * REST])


def test_a_rest_is_limited(send):
    send("b")
    rests = [send() for _ in range(200)]
    assert max(rests) == rests[-1] == module._LONGEST


def test_who_has_gone_is_no_reason_to_rest(send, clock):
    send("b")
    clock.now += module._WINDOW / 2
    send.rests.accepted("a")
    send.rests.rest("a", 10.0)
    assert send.rests.rest("a", BUSY) > 0
    clock.now += module._WINDOW / 2  # nobody asks, so that nobody is forgotten either
    assert send.rests.rest("a", 10.0) == send.rests.rest("a", BUSY) == 0


def test_who_asked_before_the_window_is_forgotten_when_anybody_asks(send, clock):
    for number in range(100):
        send.rests.accepted(f"p{number}")
    clock.now += module._WINDOW
    send.rests.accepted("a")
    assert list(send.rests._senders) == ["a"]


def test_what_took_longer_than_the_window_need_not_rest(send, clock):
    send.rests.accepted("a")
    clock.now += module._WINDOW
    send.rests.accepted("b")
    assert send.rests.rest("a", BUSY) == 0
