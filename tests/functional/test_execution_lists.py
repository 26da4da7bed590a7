# SPDX-License-Identifier: Apache-2.0
"""GET /v1/executions: filters, sort, pages."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.functional.client import HELLO, Api

pytestmark = pytest.mark.every_database

COLUMNS = ["id", "function_id", "function_version", "function_alias", "description", "status",
           "sync", "project_id", "created_at", "updated_at", "started_at", "finished_at",
           "attempts", "request_id"]
ORDERED = {"gt": lambda a, b: a > b, "gte": lambda a, b: a >= b,
           "lt": lambda a, b: a < b, "lte": lambda a, b: a <= b}
# A deployment that is there already may have others of the same name.
MARK = f"listed-{uuid.uuid4()}"
ALIAS = f"alias-{uuid.uuid4()}"


@pytest.fixture(scope="module")
def rows(session_api: Api) -> list[dict[str, Any]]:
    """Executions that differ in every column, oldest first."""
    api = session_api
    code = ("def main(name='World', fail=False, **kwargs):\n    if fail:\n"
            "        raise RuntimeError(name)\n    return name\n")
    one, two = api.function(code, name="one"), api.function(HELLO, name="two")
    api.ok("POST", f"/v1/functions/{one}/versions", 201, json={})
    api.ok("POST", "/v1/aliases", 201,
           json={"name": ALIAS, "function_id": one, "function_version": 1})
    made = [api.run(one, description=MARK), api.run(one, {"fail": True}, description=MARK)]
    time.sleep(1.1)  # times are shown in whole seconds
    made += [
        api.ok("POST", "/v1/executions", 201,
               json={"function_alias": ALIAS, "description": MARK}),
        api.run(two, description=MARK), api.run(two, description=MARK, sync=False),
    ]
    api.ended(made[-1]["id"])
    return [api.show(row["id"]) for row in made]


def _ids(found: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in found]


def _find(api: Api, **query: str) -> list[str]:
    return _ids(api.listed(**{"description": MARK, **query}))


@pytest.mark.parametrize("column", COLUMNS)
def test_equality_operators_on_every_column(api: Api, rows: list[dict[str, Any]],
                                            column: str) -> None:
    for value in {row[column] for row in rows if row[column] is not None}:
        equal = [row["id"] for row in rows if row[column] == value]
        text = str(value).lower() if isinstance(value, bool) else str(value)
        unequal = [row["id"] for row in rows
                   if row[column] is not None and row[column] != value]
        assert _find(api, **{column: text}) == equal
        assert _find(api, **{column: f"eq:{text}"}) == equal
        assert _find(api, **{column: f"in:{text}"}) == equal
        if column != "description":
            assert set(unequal) <= set(_find(api, **{column: f"neq:{text}"}))
            assert not set(equal) & set(_find(api, **{column: f"neq:{text}"}))
            assert not set(equal) & set(_find(api, **{column: f"nin:{text}"}))


@pytest.mark.parametrize("operator", ORDERED)
@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "sync"])
def test_order_operators_on_every_column(api: Api, rows: list[dict[str, Any]], column: str,
                                         operator: str) -> None:
    values = sorted({row[column] for row in rows if row[column] is not None})
    for value in values:
        expected = [row["id"] for row in rows if row[column] is not None
                    and ORDERED[operator](row[column], value)]
        if column == "description":
            found = _ids(api.listed(description=f"{operator}:{value}", limit=1000))
            assert bool(set(expected)) == bool(set(_ids(rows)) & set(found))
        else:
            assert _find(api, **{column: f"{operator}:{value}"}) == expected


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_times(api: Api, rows: list[dict[str, Any]], column: str) -> None:
    first, last = rows[0][column], rows[-1][column]
    assert first < last
    later = [row["id"] for row in rows if row[column] >= last]
    assert set(_find(api, **{column: f"gte:{last}"})) == set(later)
    assert set(_find(api, **{column: f"lt:{last}"})) == set(_ids(rows)) - set(later)
    assert _find(api, **{column: "gt:2100-01-01"}) == []
    assert _find(api, **{column: "lt:2100-01-01 00:00:00"}) == _ids(rows)
    assert _find(api, **{column: f"gte:{last.rstrip('Z')}+00:00"}) == _find(
        api, **{column: f"gte:{last}"})


def test_a_filter_given_twice_holds_twice(api: Api, rows: list[dict[str, Any]]) -> None:
    first, last = rows[0]["created_at"], rows[-1]["created_at"]
    assert first < last

    def find(*filters: str) -> list[str]:
        query = "&".join([f"description={MARK}", *filters])
        return _ids(api.ok("GET", f"/v1/executions?{query}")["executions"])

    whole = find(f"created_at=gte:{first}", "created_at=lt:2100-01-01")
    assert whole == find("created_at=lt:2100-01-01", f"created_at=gte:{first}") == _ids(rows)
    assert find("created_at=gte:2100-01-01", "created_at=gte:2000-01-01") == []
    late = find(f"created_at=gte:{last}", "created_at=lt:2100-01-01")
    assert late == [row["id"] for row in rows if row["created_at"] >= last]
    assert find("status=neq:failed", "status=neq:success") == []


@pytest.mark.parametrize("column", ["id", "function_id", "status", "request_id",
                                    "function_alias", "project_id"])
def test_has(api: Api, rows: list[dict[str, Any]], column: str) -> None:
    values = {row[column] for row in rows if row[column] is not None}
    for value in values:
        part = value[1:-1]
        expected = [row["id"] for row in rows if row[column] and part in row[column]]
        assert _find(api, **{column: f"has:{part}"}) == expected


@pytest.mark.parametrize("wild", ["%", "_", "success%", "s_ccess", "\\"])
def test_has_takes_its_text_literally(api: Api, rows: list[dict[str, Any]], wild: str) -> None:
    assert _find(api, status=f"has:{wild}") == []


def test_in_and_nin_of_several(api: Api, rows: list[dict[str, Any]]) -> None:
    ids = _ids(rows)
    assert _find(api, id=f"in:{ids[3]},{ids[0]}") == [ids[0], ids[3]]
    assert _find(api, id=f"nin:{ids[3]},{ids[0]}") == [ids[1], ids[2], ids[4]]
    assert _find(api, status="in:success,failed") == ids
    assert _find(api, function_version="in:1,2") == [ids[2]]
    assert _find(api, status="in:") == []


@pytest.mark.parametrize(("column", "text"), [
    ("function_version", "x"), ("function_version", "gt:1.5"), ("attempts", "in:1,x"),
    ("created_at", "yesterday"), ("updated_at", "gt:"), ("started_at", "2026-13-01"),
    ("sync", "banana"), ("sync", "has:t"), ("sync", "gt:true"), ("sync", "lte:false"),
    ("sync", "gt:"), ("sync", "lt:x"), ("created_at", "has:2026"), ("status", "\0"),
    ("finished_at", "lt:0000-00-00"), ("all_projects", "banana"),
    ("created_at", "0001-01-01T00:00:00+14:00"),
])
def test_value_that_does_not_fit(api: Api, column: str, text: str) -> None:
    assert column in api.refused("GET", "/v1/executions", 400, params={column: text})


@pytest.mark.parametrize("text", ["banana", "gt", "x:y", "eq:", "has:", ":", "neq:zzz"])
def test_odd_text_filters_are_no_error(api: Api, text: str) -> None:
    api.ok("GET", "/v1/executions", params={"status": text, "limit": "1"})


@pytest.mark.parametrize("number", ["99999999999999999999", "-99999999999999999999", "-1"])
def test_large_numbers_find_nothing_wrong(api: Api, number: str) -> None:
    assert api.request("GET", "/v1/executions",
                       params={"function_version": number, "limit": "1"}).status_code in (200, 400)


def test_unknown_arguments(api: Api) -> None:
    assert api.refused("GET", "/v1/executions?fields=id", 400) == 'Unknown argument: "fields"'
    assert api.refused("GET", "/v1/executions?sort_keys=id&sort_dirs=desc", 400) == (
        'Unknown argument: "sort_keys, sort_dirs"')


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "abc", "1.5", "", " 1", "9" * 5000,
                                   "\u0661"])
def test_bad_limit(api: Api, limit: str) -> None:
    assert "limit" in api.refused("GET", "/v1/executions", 400, params={"limit": limit})


@pytest.mark.parametrize("limit", ["1", "1000"])
def test_limit_at_its_ends(api: Api, rows: list[dict[str, Any]], limit: str) -> None:
    found = api.listed(description=MARK, limit=limit)
    assert len(found) == min(int(limit), len(rows))


@pytest.mark.parametrize("sort", ["nope", "id:up", "result", "input:asc", "id:asc:desc", "id,id",
                                  ":desc", "created_at desc"])
def test_bad_sort(api: Api, sort: str) -> None:
    assert "sort" in api.refused("GET", "/v1/executions", 400, params={"sort": sort})


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "sync"])
@pytest.mark.parametrize("way", ["asc", "desc"])
def test_sort(api: Api, rows: list[dict[str, Any]], column: str, way: str) -> None:
    found = api.listed(description=MARK, sort=f"{column}:{way}")
    assert sorted(_ids(found)) == sorted(_ids(rows))
    values = [row[column] for row in found if row[column] is not None]
    assert values == sorted(values, reverse=way == "desc")


def test_oldest_first_by_default(api: Api, rows: list[dict[str, Any]]) -> None:
    assert _find(api) == _ids(rows)


def test_sort_by_several(api: Api, rows: list[dict[str, Any]]) -> None:
    found = api.listed(description=MARK, sort="function_id:desc,id")
    assert _ids(found) == _ids(sorted(
        sorted(rows, key=lambda row: row["id"]), key=lambda row: row["function_id"], reverse=True))


def _next(page: dict[str, Any]) -> str:
    parts = urlsplit(page["next"])
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("sort", ["", "created_at:desc", "function_alias:asc", "status,id:desc",
                                  "function_alias:desc,function_version:asc", "finished_at"])
def test_pages_hold_every_row_once(api: Api, rows: list[dict[str, Any]], sort: str) -> None:
    whole = _ids(api.listed(description=MARK, sort=sort))
    page = api.ok("GET", "/v1/executions",
                  params={"description": MARK, "sort": sort, "limit": "2"})
    seen = _ids(page["executions"])
    assert page["next"].startswith(api.url)
    while "next" in page:
        page = api.ok("GET", _next(page))
        assert 1 <= len(page["executions"]) <= 2
        seen += _ids(page["executions"])
    assert seen == whole


def test_marker_is_also_an_id(api: Api, rows: list[dict[str, Any]]) -> None:
    ids = _ids(rows)
    assert _find(api, marker=ids[1]) == ids[2:]
    assert _find(api, marker=ids[-1]) == []


@pytest.mark.parametrize("marker", ["abc", "5b0c0a3e-0000-4000-8000-000000000000", "e30", "%%%",
                                    "\0", "W10", "bnVsbA", "x" * 3000, "ü"])
def test_bad_marker(api: Api, marker: str) -> None:
    reply = api.request("GET", "/v1/executions", params={"marker": marker})
    assert reply.status_code in (400, 404)
    assert "marker" in reply.json()["faultstring"].lower()


@pytest.mark.parametrize("sort", ["created_at:asc", "created_at:desc", "function_version:desc"])
def test_rows_come_and_go_between_pages(api: Api, sort: str) -> None:
    function = api.function()
    mark = f"moving {sort}"

    def run(count: int) -> list[str]:
        return [api.run(function, description=mark)["id"] for _ in range(count)]

    kept = set(run(12))
    chance = random.Random(7)
    page = api.ok("GET", "/v1/executions",
                  params={"description": mark, "sort": sort, "limit": "3"})
    seen = _ids(page["executions"])
    deleted: set[str] = set()
    while "next" in page:
        # The last row seen goes, and so does one not seen yet; new ones come.
        victims = {seen[-1], chance.choice(sorted(kept - deleted))}
        for victim in victims - deleted:
            api.ok("DELETE", f"/v1/executions/{victim}", 204)
        deleted |= victims
        if len(seen) < 20:
            run(1)
        page = api.ok("GET", _next(page))
        seen += _ids(page["executions"])
    assert len(seen) == len(set(seen)), "a row came twice"
    assert kept - deleted <= set(seen), "a row was skipped"


def test_marker_of_another_sort_is_refused_or_right(api: Api, rows: list[dict[str, Any]]) -> None:
    page = api.ok("GET", "/v1/executions",
                  params={"description": MARK, "limit": "2", "sort": "status:desc"})
    marker = dict(part.split("=", 1) for part in urlsplit(page["next"]).query.split("&"))["marker"]
    reply = api.request("GET", f"/v1/executions?sort=created_at&marker={marker}")
    assert reply.status_code == 400
    assert "marker" in reply.json()["faultstring"]


def test_default_page(api: Api) -> None:
    function = api.function()
    for _ in range(101):
        api.run(function)
    page = api.ok("GET", "/v1/executions", params={"function_id": function})
    assert len(page["executions"]) == 100
    rest = api.ok("GET", _next(page))
    assert len(rest["executions"]) == 1
    assert "next" not in rest
