# SPDX-License-Identifier: Apache-2.0
"""Accepting executions: by few threads at a time, in turns of projects; and not for ever."""

import threading
import time

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.context import RequestContext
from qinling_exec.executions import acceptance as module
from qinling_exec.executions import records
from qinling_exec.executions.acceptance import Acceptance, Request
from qinling_exec.executions.idempotency import Keys
from qinling_exec.executions.quotas import Quotas
from tests.unit.executions.accepting import TARGET, Accepting


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


@pytest.mark.parametrize(("limit", "stored"), [(10.0, 1), (0.0, 0)])
def test_what_the_database_is_too_slow_for_is_not_stored(database, monkeypatch, limit, stored):
    """With three seconds for a statement MariaDB's callers waited for more than a minute."""
    monkeypatch.setattr(module, "_TOO_LATE", limit)
    accepting = Accepting(database)
    request = Request(function_id="f", sync=False, came_at=time.monotonic() - 1)
    context = RequestContext(project_id="p", roles=["member"])
    if stored:
        assert accepting.store(context, request, TARGET) is not None
    else:
        with pytest.raises(exceptions.Unavailable, match="nothing was stored") as refused:
            accepting.store(context, request, TARGET)
        assert "Retry-After" in refused.value.headers
    with database.reader() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(records.table))
        assert count.scalar() == stored
    assert list(accepting.rests._senders) == ["p"] * stored, "only what is accepted counts"
