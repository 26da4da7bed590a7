# SPDX-License-Identifier: Apache-2.0
"""Requests are worked on by few threads at a time, in turns of projects."""

import threading

import pytest

from qinling_exec import exceptions
from qinling_exec.context import RequestContext
from qinling_exec.executions import acceptance as module
from qinling_exec.executions.acceptance import Acceptance, Request
from qinling_exec.executions.idempotency import Keys
from qinling_exec.executions.quotas import Quotas


@pytest.fixture
def acceptance(database):
    return Acceptance(database, Keys(database, 60), Quotas(database, None, 10), runs_images=False)


def ask(acceptance, project="a"):
    """Ask for a function that is not there."""
    with pytest.raises(exceptions.NotFound):
        acceptance.plan(RequestContext(project_id=project), Request(function_id="f"))


def held(acceptance):
    """Take all turns; return how many there are."""
    count = 0
    while acceptance._turns.take(patience=0.01):
        count += 1
    return count


def test_what_is_refused_gives_its_turn_back(acceptance):
    for _ in range(2 * module._AT_ONCE):
        ask(acceptance)
    assert held(acceptance) == module._AT_ONCE


def test_one_more_waits_for_its_turn(acceptance, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 60)
    held(acceptance)
    caller = threading.Thread(target=ask, args=(acceptance,))
    caller.start()
    caller.join(0.05)
    assert caller.is_alive()
    acceptance._turns.give()
    caller.join(10)
    assert not caller.is_alive()


def test_a_slow_database_does_not_make_the_line_longer_than_its_patience(acceptance, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    held(acceptance)
    ask(acceptance)
