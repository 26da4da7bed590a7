# SPDX-License-Identifier: Apache-2.0
"""Lists: filters mean what they say, pages neither skip nor repeat."""

import itertools
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db import listing, models

pytestmark = pytest.mark.every_database

TABLE = models.Execution.__table__
BEGIN = datetime(2026, 1, 1)


@pytest.fixture
def rows(database):
    """Nine executions; three share each creation time, some have no description."""
    rows = [
        {"id": f"0000000{n}-0000-4000-8000-000000000000", "project_id": "mine",
         "function_id": "f", "function_version": n % 2, "status": ["success", "failed"][n % 2],
         "description": None if n % 4 == 0 else f"Run_{n}", "sync": bool(n % 2),
         "created_at": BEGIN + timedelta(seconds=n // 3), "attempts": 1}
        for n in range(9)
    ]
    with database.writer() as connection:
        connection.execute(sa.insert(TABLE), rows)
    return rows


def find(database, *filters, page=None, scope=()):
    with database.reader() as connection:
        return listing.select(TABLE, scope, filters, page or listing.Page(), connection)


def numbers(rows):
    return [int(row.id[7]) for row in rows]


@pytest.mark.parametrize(("operator", "value", "expected"), [
    ("eq", "failed", [1, 3, 5, 7]),
    ("neq", "failed", [0, 2, 4, 6, 8]),
    ("in", ["failed", "x"], [1, 3, 5, 7]),
    ("nin", ["failed"], [0, 2, 4, 6, 8]),
    ("gt", "failed", [0, 2, 4, 6, 8]),
    ("gte", "failed", list(range(9))),
    ("lt", "success", [1, 3, 5, 7]),
    ("lte", "success", list(range(9))),
    ("has", "ucc", [0, 2, 4, 6, 8]),
    ("in", [], []),
])
def test_operators(database, rows, operator, value, expected):
    assert numbers(find(database, listing.Filter("status", operator, value))) == expected


@pytest.mark.parametrize(("value", "expected"), [
    ("Run_", [1, 2, 3, 5, 6, 7]), ("run_", []), ("%", []), ("n_1", [1]), ("nX1", []),
])
def test_has_is_literal_and_minds_case(database, rows, value, expected):
    assert numbers(find(database, listing.Filter("description", "has", value))) == expected


SORTS = [
    (("created_at", "asc"),), (("created_at", "desc"),), (("id", "desc"),),
    (("status", "asc"), ("created_at", "desc")), (("description", "asc"),),
    (("description", "desc"), ("created_at", "asc")), (("finished_at", "desc"),),
    (("attempts", "asc"),),
]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("by_token", [True, False])
def test_pages_hold_every_row_once_in_order(database, rows, sort, by_token):
    whole = numbers(find(database, page=listing.Page(limit=100, sort=sort)))
    assert sorted(whole) == list(range(9))
    seen, marker = [], None
    for _ in range(9):
        page = listing.Page(limit=2, marker=marker, sort=sort)
        found = find(database, page=page)
        seen += numbers(found[:2])
        if len(found) <= 2:
            break
        marker = listing.token(found[1]._mapping, page) if by_token else found[1].id
    assert seen == whole


def test_a_deleted_row_s_token_still_leads_on(database, rows):
    page = listing.Page(limit=3)
    found = find(database, page=page)
    token = listing.token(found[2]._mapping, page)
    with database.writer() as connection:
        connection.execute(sa.delete(TABLE).where(TABLE.c.id == found[2].id))
    rest = find(database, page=listing.Page(limit=3, marker=token))
    assert numbers(rest[:3]) == [3, 4, 5]


def test_a_deleted_row_s_id_is_a_clear_error(database, rows):
    gone = rows[0]["id"].replace("00000000", "99999999")
    with pytest.raises(exceptions.InputError, match="not found"):
        find(database, page=listing.Page(marker=gone))


def test_a_marker_of_another_project_is_not_found(database, rows):
    with pytest.raises(exceptions.InputError, match="not found"):
        find(database, page=listing.Page(marker=rows[0]["id"]),
             scope=[TABLE.c.project_id == "other"])


@pytest.mark.parametrize("marker", [
    "banana", "====", "e30", "W10", "bnVsbA", "\u00e4", "W1siYSJdLCBbMV1d", "A" * 5000,
    "W1siY3JlYXRlZF9hdCIsICJpZCJdLCBbMSwgMl1d",
])
def test_nonsense_markers_are_refused(database, rows, marker):
    with pytest.raises(exceptions.InputError, match=r"[Mm]arker"):
        find(database, page=listing.Page(marker=marker))


def test_a_marker_of_another_order_is_refused(database, rows):
    page = listing.Page(limit=1)
    token = listing.token(find(database, page=page)[0]._mapping, page)
    for sort in itertools.islice(SORTS, 3, None):
        with pytest.raises(exceptions.InputError, match="order"):
            find(database, page=listing.Page(marker=token, sort=sort))
