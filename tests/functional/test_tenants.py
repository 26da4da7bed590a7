# SPDX-License-Identifier: Apache-2.0
"""What projects see of each other: nothing; and what only an administrator may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.functional.client import Api

_BODIES: dict[str, Any] = {"json": {"description": "x"}}


@pytest.fixture
def mine(caller_of: Callable[..., Api]) -> Api:
    return caller_of(project="tenant-a", roles="member")


@pytest.fixture
def other(caller_of: Callable[..., Api]) -> Api:
    return caller_of(project="tenant-b", roles="member")


@pytest.fixture
def admin(caller_of: Callable[..., Api]) -> Api:
    return caller_of(project="admin-project", roles="admin")


def test_executions_of_another_project(mine: Api, other: Api) -> None:
    function = mine.function()
    made = mine.run(function)
    assert made["project_id"] == "tenant-a"
    missing = f"Execution not found [id={made['id']}]"
    path = f"/v1/executions/{made['id']}"
    assert other.refused("GET", path, 404) == missing
    assert other.refused("DELETE", path, 404) == missing
    assert other.refused("GET", path + "/log", 404, headers={"Accept": "*/*"}) == missing
    assert other.refused("POST", "/v1/executions", 404, json={"function_id": function}) == (
        f"Function not found [id={function}]")
    assert other.listed(id=made["id"]) == []
    assert other.listed(function_id=function) == []
    assert mine.show(made["id"]) == made


def test_functions_of_another_project(mine: Api, other: Api) -> None:
    function = mine.function()
    mine.ok("POST", f"/v1/functions/{function}/versions", 201, json={})
    mine.ok("POST", "/v1/aliases", 201, json={"name": "private", "function_id": function})
    path = f"/v1/functions/{function}"
    package: dict[str, Any] = {"data": {"name": "stolen"}}
    for method, where, options in [
        ("GET", path, {}), ("GET", path + "?download=true", {}), ("PUT", path, package),
        ("DELETE", path, {}), ("GET", path + "/versions/1", {}),
        ("GET", path + "/versions/1?download=true", {}), ("DELETE", path + "/versions/1", {}),
        ("POST", path + "/versions", {"json": {}}),
        ("POST", "/v1/aliases", {"json": {"name": "theirs", "function_id": function}}),
        ("GET", "/v1/aliases/private", {}), ("PUT", "/v1/aliases/private", _BODIES),
        ("DELETE", "/v1/aliases/private", {}),
        ("POST", "/v1/executions", {"json": {"function_alias": "private"}}),
    ]:
        assert "not found" in other.refused(method, where, 404, **options)
    listed = other.request("GET", path + "/versions")
    assert listed.status_code == 404 or listed.json() == {"function_versions": []}
    assert function not in other.request("GET", "/v1/functions?limit=1000").text
    assert other.ok("GET", "/v1/aliases")["function_aliases"] == []
    assert mine.ok("GET", path)["name"] == "f"


def test_alias_names_are_a_projects_own(mine: Api, other: Api) -> None:
    for caller in (mine, other):
        caller.ok("POST", "/v1/aliases", 201,
                  json={"name": "same", "function_id": caller.function()})
    made = mine.ok("POST", "/v1/executions", 201, json={"function_alias": "same"})
    assert made["project_id"] == "tenant-a"


def test_own_id_tells_nothing_about_another_projects_execution(mine: Api, other: Api) -> None:
    made = mine.run(mine.function())
    theirs = other.function()
    text = other.refused("POST", "/v1/executions", 400,
                         json={"function_id": theirs, "id": made["id"]})
    assert text.startswith("Duplicate entry")
    assert mine.show(made["id"]) == made


def test_marker_of_another_project(mine: Api, other: Api) -> None:
    made = mine.run(mine.function())
    reply = other.request("GET", f"/v1/executions?marker={made['id']}")
    assert reply.status_code in (400, 404)


@pytest.mark.parametrize("path", ["executions", "functions"])
def test_all_projects_is_for_administrators(mine: Api, admin: Api, path: str) -> None:
    function = mine.function()
    made = mine.run(function)
    wanted = made["id"] if path == "executions" else function
    query = f"/v1/{path}?all_projects=true&limit=1000&sort=created_at:desc"
    assert mine.refused("GET", query, 403) == "Operation not allowed"
    found = admin.ok("GET", query)[path]
    assert wanted in [row["id"] for row in found]
    assert wanted not in [row["id"] for row in admin.ok("GET", f"/v1/{path}?limit=1000")[path]]
    theirs = admin.ok("GET", f"/v1/{path}?project_id=tenant-a&limit=1000")[path]
    assert wanted in [row["id"] for row in theirs]
    assert {row["project_id"] for row in theirs} == {"tenant-a"}


def test_project_id_of_others_is_no_way_in(mine: Api, other: Api) -> None:
    made = mine.run(mine.function())
    reply = other.request("GET", "/v1/executions?project_id=tenant-a")
    assert reply.status_code == 403 or made["id"] not in reply.text
    for flag in ("true", "True", "1", "yes", "on"):
        assert other.request("GET", f"/v1/executions?all_projects={flag}").status_code == 403


@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", "/v1/runtimes", {"image": "i"}),
    ("PUT", "/v1/runtimes/{runtime}", {"name": "n"}),
    ("DELETE", "/v1/runtimes/{runtime}", None),
    ("GET", "/v1/runtimes/{runtime}/pool", None),
    ("GET", "/v1/functions/{function}/workers", None),
    ("POST", "/v1/functions/{function}/scale_up", {"count": 1}),
    ("POST", "/v1/functions/{function}/scale_down", {"count": 1}),
    ("POST", "/v1/functions/{function}/detach", None),
    ("POST", "/v1/functions/{function}/versions/1/scale_up", {"count": 1}),
    ("POST", "/v1/functions/{function}/versions/1/scale_down", {"count": 1}),
    ("POST", "/v1/functions/{function}/versions/1/detach", None),
])
def test_what_only_administrators_may_do(mine: Api, method: str, path: str,
                                         body: dict[str, Any] | None) -> None:
    function = mine.function()
    mine.ok("POST", f"/v1/functions/{function}/versions", 201, json={})
    path = path.format(function=function, runtime=mine.runtime())
    options = {} if body is None else {"json": body}
    assert mine.refused(method, path, 403, **options) == "Operation not allowed"


def test_private_runtime(admin: Api, mine: Api) -> None:
    made = admin.ok("POST", "/v1/runtimes", 201, json={"image": "private", "is_public": False})
    path = f"/v1/runtimes/{made['id']}"
    assert mine.refused("GET", path, 404) == f"Runtime not found [id={made['id']}]"
    assert made["id"] not in mine.request("GET", "/v1/runtimes").text
    admin.ok("DELETE", path, 204)
