# SPDX-License-Identifier: Apache-2.0
"""The checks of a process tell what is wrong, and in time."""

import threading
from unittest import mock

import pytest

from qinling_exec import health
from qinling_exec.db import migration


@pytest.fixture
def make(database, monkeypatch):
    monkeypatch.setattr(health, "_GOOD_SECONDS", -1.0)
    return lambda valid=True, orchestrated=None: health.Health(
        database, mock.Mock(valid=valid), lambda: orchestrated)


def outcomes(checked):
    return {check.name: check.healthy for check in checked.checks()}


def test_all_is_well(make):
    assert outcomes(make()) == {"database": True, "schema": True, "lease": True}


def test_a_lost_lease(make):
    assert outcomes(make(valid=False)) == {"database": True, "schema": True, "lease": False}


@pytest.mark.parametrize("answers", [True, False])
def test_whether_an_engine_can_have_workers(make, answers):
    assert outcomes(make(orchestrated=answers))["orchestrator"] is answers


def test_another_schema(make, monkeypatch):
    monkeypatch.setattr(migration, "newest", lambda: "0999")
    (check,) = [one for one in make().checks() if one.name == "schema"]
    assert not check.healthy
    assert "needs 0999" in check.reason


def test_what_a_database_says_is_not_told(make, database, monkeypatch):
    monkeypatch.setattr(database, "reader", mock.Mock(side_effect=RuntimeError("password=x")))
    check = make().checks()[0]
    assert (check.healthy, check.reason) == (False, "It can't be asked; the log says more.")


def test_a_database_that_hangs(make, database, monkeypatch):
    """One thread waits for it, however often one asks; when it is back all is well."""
    monkeypatch.setattr(health, "_PATIENCE", 0.05)
    release, reader, asked = threading.Event(), database.reader, []

    def hang():
        asked.append(1)
        release.wait(30)
        return reader()

    monkeypatch.setattr(database, "reader", hang)
    checked = make()
    for _ in range(3):
        assert outcomes(checked) == {"database": False}
    assert len(asked) == 1
    release.set()
    monkeypatch.setattr(health, "_PATIENCE", 30)
    assert all(outcomes(checked).values())


def test_an_outcome_is_good_for_a_moment(make, database, monkeypatch):
    monkeypatch.setattr(health, "_GOOD_SECONDS", 60)
    checked = make()
    first = checked.checks()
    monkeypatch.setattr(database, "reader", mock.Mock(side_effect=AssertionError))
    assert checked.checks() is first
