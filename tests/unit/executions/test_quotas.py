# SPDX-License-Identifier: Apache-2.0
"""The queue is bounded, for each project and in all, and is not counted all the time."""

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import quotas, records, states
from qinling_exec.executions.quotas import Quotas
from qinling_exec.quota.limits import FUNCTIONS, PACKAGE_BYTES, QUEUED, RUNNING

pytestmark = pytest.mark.every_database


class Same:
    """The same limits for every project."""

    def __init__(self, queued=-1, running=-1, functions=-1, package_bytes=-1):
        self.limits = {QUEUED: queued, RUNNING: running, FUNCTIONS: functions,
                       PACKAGE_BYTES: package_bytes}

    def of(self, project_id):
        return self.limits


def insert(database, count, project="mine", status=states.RUNNING, runner=None, first=0):
    with database.writer() as connection:
        for number in range(first, first + count):
            connection.execute(sa.insert(records.table), {
                "id": f"{project}-{status}-{runner}-{number}", "project_id": project,
                "function_id": "f", "function_version": 0, "status": status, "sync": False,
                "created_at": utcnow(), "attempts": 0, "runner_id": runner,
            })


def test_only_what_waits_counts(database):
    insert(database, 1)
    insert(database, 5, status=states.SUCCESS)
    insert(database, 5, runner="somebody")
    Quotas(database, Same(2), 2).check("mine")


def test_a_full_project_is_refused_and_told_the_numbers(database):
    insert(database, 3)
    guard = Quotas(database, Same(3), 100)
    with pytest.raises(exceptions.TooManyRequests,
                       match=r"queued_executions: .* is 3, it has 3") as found:
        guard.check("mine")
    assert (found.value.code, "Retry-After" in found.value.headers) == (429, True)
    guard.check("other")


def test_a_full_queue_refuses_everybody(database):
    insert(database, 2, project="a")
    insert(database, 2, project="b")
    guard = Quotas(database, Same(3), 4)
    with pytest.raises(exceptions.Unavailable, match=r"4 exec.* limit is 4\.") as found:
        guard.check("c")
    assert (found.value.code, "Retry-After" in found.value.headers) == (503, True)


def test_what_this_process_adds_counts_at_once(database, monkeypatch):
    monkeypatch.setattr(quotas, "_FULL_LIFE", 60.0)
    guard = Quotas(database, Same(2), 100)
    for number in range(2):
        guard.check("mine")
        insert(database, 1, first=number)
        guard.added("mine")
    with pytest.raises(exceptions.TooManyRequests):
        guard.check("mine")


def test_nobody_is_refused_because_of_what_was_only_reckoned(database, monkeypatch):
    """What this process accepted a moment ago has started, and does not wait any more."""
    monkeypatch.setattr(quotas, "_FULL_LIFE", 60.0)
    guard = Quotas(database, Same(2), 100)
    for _ in range(5):
        guard.check("mine")
        guard.added("mine")


def test_nobody_is_refused_because_of_an_old_number(database, monkeypatch):
    monkeypatch.setattr(quotas, "_FULL_LIFE", 0.0)
    monkeypatch.setattr(quotas, "_SHARE", 0.0)
    guard = Quotas(database, Same(2), 100)
    for _ in range(3):
        guard.check("mine")
        guard.added("mine")  # and it has started meanwhile


def test_counted_again_after_a_while(database, monkeypatch):
    guard = Quotas(database, Same(2), 100)
    guard.check("mine")
    insert(database, 2)
    guard.check("mine")  # still the old number
    monkeypatch.setattr(quotas, "_LIFE", 0.0)
    monkeypatch.setattr(quotas, "_FULL_LIFE", 0.0)
    monkeypatch.setattr(quotas, "_LONG_LIFE", 0.0)
    monkeypatch.setattr(quotas, "_SHARE", 0.0)
    with pytest.raises(exceptions.TooManyRequests):
        guard.check("mine")


def test_not_counted_further_than_the_limit(database):
    insert(database, 5)
    with database.reader() as connection:
        assert quotas._count(connection, QUEUED, "mine", 3) == 3


def test_a_count_that_fails_is_tried_again(database, monkeypatch):
    guard = Quotas(database, Same(3), 3)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(quotas, "_count", lambda *_: 1 / 0)
        guard.check("mine")
    insert(database, 3)
    with pytest.raises(exceptions.ServiceError):
        guard.check("mine")


def test_no_more_of_a_project_run_at_once_than_it_may(database):
    insert(database, 2, runner="somebody")
    guard = Quotas(database, Same(running=2), 100)
    with pytest.raises(exceptions.TooManyRequests,
                       match=r"running_executions: .* is 2, it has 2, and 1 more") as found:
        guard.check("mine", sync=True, queued=False)
    assert found.value.code == 429
    guard.check("other", sync=True, queued=False)
    guard.check("mine")  # it may wait until others have ended


def test_what_runs_is_counted_in_the_transaction_that_adds_to_it(database):
    """So processes that know of each other's executions only by the database agree."""
    guards = [Quotas(database, Same(running=3), 100) for _ in range(2)]
    for guard in guards:
        guard.check("mine", sync=True, queued=False)  # both have counted none
    insert(database, 4, runner="somebody")
    for guard in guards:
        with database.writer() as connection, pytest.raises(exceptions.TooManyRequests):
            guard.settle(connection, "mine", 3)


def test_far_from_a_large_limit_nothing_is_locked_or_counted(database):
    guard = Quotas(database, Same(running=1000), 100)
    guard.check("mine", sync=True, queued=False)
    with database.writer() as connection:
        guard.settle(connection, "mine", 1000)
        assert connection.execute(sa.select(models.QuotaLock)).first() is None


def test_running_is_not_counted_when_it_is_not_limited(database, monkeypatch):
    monkeypatch.setattr(quotas, "_count", lambda *_: 1 / 0)
    guard = Quotas(database, Same(), 100)
    assert guard.check("mine", sync=True, queued=False) == -1
    with database.writer() as connection:
        guard.settle(connection, "mine", -1)
