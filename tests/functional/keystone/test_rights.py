# SPDX-License-Identifier: Apache-2.0
"""Every route, with each role, in the own and in another project."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator

import pytest
import requests
from oslo_policy import policy

from qinling_exec import policies
from qinling_exec.api import identity
from tests.functional import processes
from tests.functional.client import Api
from tests.functional.keystone.conftest import PROJECTS, ROLES
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.rights import LEVELS, LINES, UNSEEN, Line, Objects
from tests.functional.keystone.server import Keystone
from tests.functional.reference.routes import Route, routes

Holder = Callable[..., Api]
GUARDED = sorted(route for route in routes() if route[1] not in identity.OPEN)


@pytest.fixture(scope="module")
def objects(deployed: Deployed, tokens: dict[tuple[str, str], str]) -> Iterator[Objects]:
    callers = [deployed.api(token=tokens["mine", role]) for role in ("member", "admin")]
    made = Objects(*callers)
    yield made
    for caller in callers:
        caller.close()


def test_each_route_has_a_line() -> None:
    assert set(GUARDED) == set(LINES)


def test_each_route_has_a_rule_and_each_rule_a_route() -> None:
    named = {
        (operation["method"], re.sub(r"\{\w+\}", "{}", operation["path"]).partition("?")[0])
        for rule in policies.list_rules() if isinstance(rule, policy.DocumentedRuleDefault)
        for operation in rule.operations
    }
    assert named == set(GUARDED)


@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_rights(route: Route, objects: Objects, holder: Holder, deployed: Deployed) -> None:
    line, seen = LINES[route], {}
    for project in PROJECTS:
        for role in ROLES:
            reply = _ask(holder(role, project), route[0], line, objects)
            wanted = _wanted(line, role, project)
            if wanted == UNSEEN:
                assert not any(f'"{name}"' in reply.text for name in objects.ids), (project, role)
            if reply.status_code == 403 and LEVELS[role] < LEVELS[line.least]:
                assert reply.json()["faultstring"] == "Operation not allowed"
            if reply.status_code == 404:
                assert "not found" in reply.json()["faultstring"]
            if reply.status_code != abs(wanted):
                seen[project, role] = (reply.status_code, reply.text[:200])
    assert seen == {}
    path = line.path(objects)
    assert requests.request(route[0], deployed.url + path, timeout=30).status_code == 401


def _wanted(line: Line, role: str, project: str) -> int:
    if LEVELS[role] < LEVELS[line.least]:
        return 403
    if project == "mine":
        return line.own
    return line.admin if role == "admin" else line.other


def _ask(caller: Api, method: str, line: Line, objects: Objects) -> requests.Response:
    return caller.request(method, line.path(objects), **line.send(objects))


@pytest.mark.parametrize("kind", ["executions", "functions", "aliases"])
def test_all_projects(kind: str, objects: Objects, holder: Holder, keystone: Keystone) -> None:
    everybodys = f"/v1/{kind}?all_projects=true&limit=1000"
    name = {"executions": objects.execution, "functions": objects.function,
            "aliases": objects.alias}[kind]
    for role in ROLES[:-2]:
        caller = holder(role, "other")
        assert caller.refused("GET", everybodys, 403) == "Operation not allowed"
        theirs = caller.request("GET", f"/v1/{kind}?project_id={keystone.project_id('mine')}")
        assert f'"{name}"' not in theirs.text
    assert f'"{name}"' in holder("admin", "other").request("GET", everybodys).text


def test_packages_of_another_project(objects: Objects, holder: Holder) -> None:
    for path in (f"/v1/functions/{objects.function}", f"/v1/functions/{objects.function}"
                 "/versions/1"):
        query = path + "?download=true"
        assert holder("reader").request("GET", query).content[:2] == b"PK"
        holder("manager", "other").refused("GET", query, 404)
        holder("service").refused("GET", query, 403)


def test_private_runtime(holder: Holder) -> None:
    made = holder("admin").ok("POST", "/v1/runtimes", 201,
                              json={"image": "python3", "is_public": False})
    path = f"/v1/runtimes/{made['id']}"
    holder("reader").ok("GET", path)
    holder("manager", "other").refused("GET", path, 404)
    assert made["id"] not in holder("reader", "other").request("GET", "/v1/runtimes").text
    holder("admin").ok("DELETE", path, 204)


def test_a_changed_policy_file_is_followed(keystone: Keystone, holder: Holder,
                                           start_deployed: Callable[..., Deployed]) -> None:
    """Without a restart; a broken one is reported and changes nothing."""
    running = start_deployed(keystone.settings("qinling", "service"))
    caller = holder("reader", running=running)
    alias = {"json": {"name": "a", "function_id": str(uuid.uuid4())}}
    file = running.data_dir / "policy.yaml"
    caller.refused("POST", "/v1/aliases", 403, **alias)
    file.write_text('"function_alias:create": "rule:project_reader"\n')
    assert processes.wait_for(lambda: caller.request(
        "POST", "/v1/aliases", **alias).status_code == 404, 10)
    file.write_text('"function_alias:create": [')
    assert processes.wait_for(lambda: caller.refused("POST", "/v1/aliases", 404, **alias) and
                              "The rules stay as they were" in running.log, 10)
    caller.refused("POST", "/v1/aliases", 404, **alias)
