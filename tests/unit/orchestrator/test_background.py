# SPDX-License-Identifier: Apache-2.0
"""Work that is done besides: never twice at once, and not in a hot loop when it fails."""

import threading
import time

import pytest

from qinling_exec.orchestrator import background
from qinling_exec.orchestrator.background import UNCHANGED, Background
from qinling_exec.orchestrator.base import OrchestratorUnavailable
from tests.functional import processes


@pytest.fixture
def rung():
    return []


@pytest.fixture
def besides(rung):
    made = Background("besides", 2, lambda: rung.append(1))
    yield made
    made.stop()


@pytest.mark.parametrize("error", [OrchestratorUnavailable("away"), ValueError("a bug")])
def test_what_fails_rests_before_it_is_tried_again(besides, rung, error):
    """The loop asks for it at every turn, and each ring would be a turn."""
    tried = []

    def fail():
        tried.append(time.monotonic())
        raise error

    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        besides.once("it", fail)
        time.sleep(0.005)
    assert 2 <= len(tried) <= 4
    assert rung == []


def test_what_has_failed_is_as_good_as_any_once_it_succeeds(besides, rung):
    outcomes = [ValueError("once"), None, UNCHANGED]

    def work():
        outcome = outcomes.pop(0)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    def once():
        return processes.wait_for(lambda: besides.once("it", work), 5) and processes.wait_for(
            lambda: not besides.busy(), 5)

    assert once()
    assert (rung, list(besides._failed)) == ([], ["it"])
    assert once()
    assert (rung, besides._failed) == ([1], {})
    assert once()
    assert rung == [1], "nobody has to be told"


def test_failures_of_what_is_gone_are_forgotten(besides, monkeypatch):
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.01)
    for number in range(20):
        besides.once(f"worker-{number}", lambda: 1 / 0)
        time.sleep(0.02)
    assert processes.wait_for(lambda: not besides.busy(), 5)
    assert len(besides._failed) < 12


def test_never_twice_at_the_same_time(besides):
    gate, began = threading.Event(), []

    def work():
        began.append(1)
        gate.wait(10)

    assert besides.once("it", work)
    assert not besides.once("it", work)
    assert processes.wait_for(lambda: began, 5)
    assert besides.busy() == {"it"}
    gate.set()
    assert processes.wait_for(lambda: not besides.busy(), 5)
    assert began == [1]
