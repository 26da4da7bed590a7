# SPDX-License-Identifier: Apache-2.0
"""Keys of repeated requests: one for each project, remembered for a while."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db import models
from qinling_exec.executions import idempotency
from qinling_exec.executions.idempotency import Key, Keys, Taken, check

pytestmark = pytest.mark.every_database

TABLE = models.IdempotencyKey.__table__
KEY = Key("mine", "k", ["f", 1])


@pytest.fixture
def keys(database):
    return Keys(database, 60)


def put(database, keys, key=KEY, execution="e"):
    with database.writer() as connection:
        keys.insert(connection, key, execution)


def find(database, keys, key=KEY):
    with database.reader() as connection:
        return keys.find(connection, key)


def age(database, seconds):
    with database.writer() as connection:
        for row in connection.execute(sa.select(TABLE)).all():
            connection.execute(sa.update(TABLE).values(
                created_at=row.created_at - timedelta(seconds=seconds)))


def test_found_again(database, keys):
    assert find(database, keys) is None
    put(database, keys)
    assert find(database, keys) == "e"


def test_of_each_project_its_own(database, keys):
    put(database, keys)
    assert find(database, keys, Key("other", "k", ["f", 1])) is None
    put(database, keys, Key("other", "k", ["g"]), "e2")
    assert find(database, keys) == "e"


def test_another_request_under_it_is_a_conflict(database, keys):
    put(database, keys)
    with pytest.raises(exceptions.Conflict, match="another request"):
        find(database, keys, Key("mine", "k", ["f", 2]))


def test_taken_once(database, keys):
    put(database, keys)
    with pytest.raises(Taken):
        put(database, keys, execution="e2")
    assert find(database, keys) == "e"


def test_forgotten_when_its_time_is_over(database, keys):
    put(database, keys)
    keys.forget(KEY)
    assert find(database, keys) == "e"
    age(database, 61)
    assert find(database, keys) is None
    with pytest.raises(Taken):
        put(database, keys, execution="e2")
    keys.forget(KEY)
    put(database, keys, execution="e2")
    assert find(database, keys) == "e2"


def test_old_ones_are_removed_in_batches(database, keys, monkeypatch):
    monkeypatch.setattr(idempotency, "_BATCH", 2)
    for number in range(3):
        put(database, keys, Key("mine", f"old-{number}", []))
    age(database, 61)
    put(database, keys)
    assert [keys.expire() for _ in range(3)] == [2, 1, 0]
    assert find(database, keys) == "e"


@pytest.mark.parametrize("text", ["", "x" * 256, "a\tb", "ü", "\x7f", "line\nbreak"])
def test_what_is_no_key(text):
    with pytest.raises(exceptions.InputError, match="1 to 255 printable ASCII"):
        check(text)


@pytest.mark.parametrize("text", [None, "x", "x" * 255, "a b~!", "6f1c"])
def test_what_is_one(text):
    assert check(text) == text
