# SPDX-License-Identifier: Apache-2.0
"""What filters of times mean: a whole second is all of it, as replies show no more."""

from datetime import datetime

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.api import filters
from qinling_exec.db import listing

BEFORE, FIRST, LAST, AFTER = times = (
    datetime(2026, 1, 1, 11, 59, 59, 999_999), datetime(2026, 1, 1, 12),
    datetime(2026, 1, 1, 12, 0, 0, 999_999), datetime(2026, 1, 1, 12, 0, 1))
TABLE = sa.Table("times", sa.MetaData(), sa.Column("at", sa.DateTime))


@pytest.fixture
def found():
    """Return the times that a filter leaves, and one that is not there among them."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    TABLE.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(TABLE), [{"at": at} for at in (*times, None)])

    def found(text):
        wanted = filters.parse({"at": datetime}, {"at": text})
        with engine.connect() as connection:
            return list(connection.execute(sa.select(TABLE.c.at).where(
                *(listing.condition(TABLE, one) for one in wanted)).order_by("at")).scalars())

    yield found
    engine.dispose()


@pytest.mark.parametrize(("text", "left"), [
    ("{}", [FIRST, LAST]), ("eq:{}", [FIRST, LAST]), ("neq:{}", [BEFORE, AFTER]),
    ("gt:{}", [AFTER]), ("gte:{}", [FIRST, LAST, AFTER]),
    ("lt:{}", [BEFORE]), ("lte:{}", [BEFORE, FIRST, LAST]),
    ("in:{}", [FIRST, LAST]), ("in:{},2026-01-01T12:00:01Z", [FIRST, LAST, AFTER]),
    ("nin:{}", [BEFORE, AFTER]), ("nin:2026-01-01 11:59:59,{}", [AFTER]),
])
@pytest.mark.parametrize("second", [
    "2026-01-01T12:00:00Z", "2026-01-01 12:00:00", "2026-01-01T14:00:00+02:00",
    "2026-01-01T12:00", "2026-01-01 12:00:00.000000",
])
def test_a_whole_second(found, text, left, second):
    assert found(text.format(second)) == left


@pytest.mark.parametrize(("text", "left"), [
    ("{}", [LAST]), ("neq:{}", [BEFORE, FIRST, AFTER]), ("gt:{}", [AFTER]),
    ("gte:{}", [LAST, AFTER]), ("lt:{}", [BEFORE, FIRST]), ("lte:{}", [BEFORE, FIRST, LAST]),
    ("nin:{},2026-01-01 12:00:01", [BEFORE, FIRST]),
])
def test_a_part_of_a_second(found, text, left):
    assert found(text.format("2026-01-01T12:00:00.999999Z")) == left


def test_the_last_second_of_all(found):
    assert found("lte:9999-12-31T23:59:59") == list(times)
    assert found("gt:9999-12-31T23:59:59") == []


@pytest.mark.parametrize("text", ["yesterday", "eq:", "in:2026-01-01,", "has:2026-01-01"])
def test_no_time(text):
    with pytest.raises(exceptions.InputError, match="at"):
        filters.parse({"at": datetime}, {"at": text})
