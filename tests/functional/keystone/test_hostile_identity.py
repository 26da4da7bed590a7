# SPDX-License-Identifier: Apache-2.0
"""Somebody with a token of one project tries to reach what another project has."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from qinling_exec.api import identity
from tests.functional import processes
from tests.functional.client import Api, make_zip
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone
from tests.functional.reference.routes import routes

Holder = Callable[..., Api]
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
#: Is in all that the attacked project has.
MARK = "mark-of-the-other-project"
CODE = f"def main(**kwargs):\n    print('{MARK}')\n    return '{MARK}'\n"
#: What a caller may try to be, in the headers that the check of a token leaves for the service.
CLAIMS = {
    "X-Roles": "admin", "X-Role": "admin", "X-Is-Admin-Project": "true", "X-Is-Admin": "1",
    "X-Identity-Status": "Confirmed", "X-Service-Identity-Status": "Confirmed",
    "X-Service-Roles": "admin,service", "X-User-Id": "u", "X-User": "u",
    "OpenStack-System-Scope": "all", "X-Domain-Id": "default",
    "X-Forwarded-For": "127.0.0.1", "X-HTTP-Method-Override": "DELETE",
}


class Target:
    """What a project has, and is to keep."""

    def __init__(self, owner: Api, admin: Api) -> None:
        self._owner = owner
        self.function = owner.function(CODE, description=MARK, name=MARK)
        owner.ok("POST", f"/v1/functions/{self.function}/versions", 201,
                 json={"description": MARK})
        owner.ok("POST", "/v1/aliases", 201,
                 json={"name": MARK, "function_id": self.function, "function_version": 1})
        self.keyed = {"json": {"function_id": self.function}, "headers": {"Idempotency-Key": MARK}}
        self.execution = str(owner.ok("POST", "/v1/executions", 201, **self.keyed)["id"])
        owner.run(self.function)
        self.runtime = str(admin.ok("POST", "/v1/runtimes", 201, json={
            "image": "python3", "name": MARK, "is_public": False})["id"])
        path = f"/v1/runtimes/{self.runtime}"
        assert processes.wait_for(lambda: owner.ok("GET", path)["status"] == "available", 30)

    def paths(self) -> list[str]:
        """Return every path of the API that is not open to all, with this for what it names."""
        names = {"aliases": MARK, "executions": self.execution, "functions": self.function,
                 "runtimes": self.runtime}
        found = set()
        for _, template in routes():
            if template not in identity.OPEN:
                first = names[template.split("/")[2]]
                found.add(template.replace("{}", first, 1).replace("{}", "1"))
        return sorted(found)

    def state(self) -> list[bytes]:
        """Return all that its project sees of it."""
        function = f"/v1/functions/{self.function}"
        return [self._owner.request("GET", path, headers={"Accept": "*/*"}).content for path in (
            function, f"{function}?download=true", f"{function}/versions",
            f"{function}/versions/1?download=true", f"/v1/aliases/{MARK}",
            f"/v1/executions/{self.execution}", f"/v1/executions/{self.execution}/log",
            f"/v1/executions?function_id={self.function}", f"/v1/runtimes/{self.runtime}")]


@pytest.fixture(scope="module")
def target(deployed: Deployed, tokens: dict[tuple[str, str], str]) -> Iterator[Target]:
    callers = [deployed.api(token=tokens["mine", role]) for role in ("member", "admin")]
    yield Target(*callers)
    for caller in callers:
        caller.close()


@pytest.fixture(autouse=True)
def unchanged(target: Target) -> Iterator[None]:
    """Nothing that a test does changes it."""
    before = target.state()
    yield
    assert target.state() == before


@pytest.fixture
def thief(holder: Holder) -> Api:
    """Who may most of all that are no administrators, in another project."""
    return holder("manager", "other")


def raw(url: str, verb: str, path: str, headers: list[tuple[str, str]],
        body: bytes = b"") -> tuple[int, bytes]:
    """Send a request as it is given: nothing of the path or of the headers is put right."""
    host = urlsplit(url).netloc
    with contextlib.closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.putrequest(verb, path, skip_accept_encoding=True)
        for name, value in [*headers, ("Content-Length", str(len(body)))]:
            connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, reply.read()


def spellings(path: str) -> list[str]:
    """Return a path, and what a server may take for it."""
    head, _, name = path.rpartition("/")
    return [path, path + "/", path + ".json", path.upper().replace("/V1/", "/v1/", 1),
            path.replace("/", "//"), f"/v1/x/..{path[3:]}", f"{path};a=b", f"{path}%00",
            f"{head}/%2e/{name}", f"{path}?download=true&all_projects=false&_method=delete",
            head + "/" + quote(name, safe="").replace("-", "%2D")]


def test_no_verb_reaches_it_by_any_path(deployed: Deployed, thief: Api, target: Target) -> None:
    """Each verb on each path as it is; and two on paths that are spelt oddly."""
    token = ("X-Auth-Token", thief.headers["X-Auth-Token"])
    asked = [(verb, path) for path in target.paths() for verb in VERBS]
    asked += [(verb, odd) for path in target.paths() for odd in spellings(path)[1:]
              for verb in ("GET", "DELETE")]
    bodies = {"POST": b'{"count": 1}', "PUT": b'{"description": "stolen"}'}
    open_to_all = {f"/v1/{kind}" for kind in ("aliases", "executions", "functions", "runtimes")}
    reached = []
    for verb, path in asked:
        status, body = raw(deployed.url, verb, path, [
            token, ("Content-Type", "application/json"), ("Accept", "*/*")], bodies.get(verb, b""))
        listed = verb in ("GET", "HEAD") and path.partition("?")[0].rstrip("/") in open_to_all
        if status >= 500 or (status < 400 and verb != "OPTIONS" and not listed) or (
                any(mark in body for mark in (MARK.encode() + b'"', b"PK\x03\x04"))):
            reached.append((verb, path, status, body[:100]))
    assert reached == []


def test_it_is_not_run_or_named_by_reference(thief: Api, target: Target) -> None:
    """In bodies: as what is to be run, pointed at, built on, or repeated."""
    own = thief.function()
    thief.ok("POST", "/v1/aliases", 201, json={"name": "thief", "function_id": own})
    for body in ({"function_id": target.function}, {"function_id": target.function.upper()},
                 {"function_id": target.function, "function_version": 1},
                 {"function_alias": MARK}, {"function_alias": MARK, "function_id": own}):
        for more in ({}, {"sync": False}):
            assert "not found" in thief.refused("POST", "/v1/executions", 404,
                                                json={**body, **more})
    for body in ({"function_id": own, "project_id": "p"}, {"function_id": own, "runner_id": "r"},
                 {"function_id": own, "id": target.execution}):
        assert MARK not in thief.refused("POST", "/v1/executions", 400, json=body)
    repeated = thief.ok("POST", "/v1/executions", 201,
                        **{**target.keyed, "json": {"function_id": own}})
    assert repeated["id"] != target.execution and MARK not in json.dumps(repeated)
    alias: dict[str, Any] = {"json": {"name": "theirs", "function_id": target.function}}
    thief.refused("POST", "/v1/aliases", 404, **alias)
    thief.refused("PUT", "/v1/aliases/thief", 404, json={"function_id": target.function})
    for method, path in (("POST", "/v1/functions"), ("PUT", f"/v1/functions/{own}")):
        for field in ("project_id", "package", "id", "runtime_id"):
            given = {"code": '{"source": "package"}', field: target.runtime}
            files = {"package": ("f.zip", make_zip({"main.py": "x = 1\n"}))}
            reply = thief.request(method, path, data=given,
                                  files=files if field != "package" else None)
            assert reply.status_code in (400, 404), (method, field, reply.text)


def test_packages_are_not_got_by_their_checksum(thief: Api, holder: Holder,
                                                target: Target) -> None:
    code = holder("reader").ok("GET", f"/v1/functions/{target.function}")["code"]
    own = thief.function()
    fields = {"code": json.dumps(code), "runtime_id": thief.runtime(), "entry": "main.main"}
    thief.refused("POST", "/v1/functions", 400, data=fields)
    for given in ({"code": json.dumps(code)}, {"md5sum": code["md5sum"]}):
        thief.refused("PUT", f"/v1/functions/{own}", 400, data=given)
    assert MARK.encode() not in thief.request(
        "GET", f"/v1/functions/{own}?download=true", headers={"Accept": "*/*"}).content


def test_lists_show_nothing_of_it(thief: Api, holder: Holder, target: Target,
                                  keystone: Keystone) -> None:
    """By marker, by filter, by another project's name, in whatever way these are written."""
    owner, mine = holder("reader"), keystone.project_id("mine")
    record = owner.show(target.execution)
    following = owner.ok("GET", "/v1/executions?limit=1&sort=created_at:desc")["next"]
    marker = following.rpartition("marker=")[2]
    columns = ("id", "function_id", "request_id", "created_at", "status", "function_version")
    queries = [f"{name}={how}:{quote(str(record[name]))}" for name in columns
               for how in ("eq", "in", "gte", "lte")]
    queries += [f"project_id={how}{mine}" for how in ("", "eq:", "in:", "neq:x", "has:", "gte:")]
    queries += [f"project_id=x&project_id={mine}", f"project_id={mine}&all_projects=false",
                "all_projects=", "description=has:mark", "sort=project_id",
                f"marker={marker}", f"marker={marker}&sort=created_at:desc"]
    for kind in ("executions", "functions", "aliases", "runtimes"):
        for query in queries:
            reply = thief.request("GET", f"/v1/{kind}?limit=1000&{query}")
            assert reply.status_code in (200, 400), (kind, query, reply.text)
            for secret in (MARK, target.execution, target.function, target.runtime, mine):
                # An error may repeat what was asked; runtimes for all are another project's.
                assert secret not in reply.text or reply.status_code == 400 or (
                    kind == "runtimes" and secret == mine), (kind, query)
        for value in ("true", "1", "True", "yes", "on", "t", "TRUE"):
            for query in (f"all_projects={value}", f"all_projects=false&all_projects={value}",
                          f"all_projects=false&all_projects={value}&project_id={mine}"):
                status = thief.request("GET", f"/v1/{kind}?{query}").status_code
                assert status in ((400,) if kind == "runtimes" else (400, 403)), (kind, query)
        for name in (target.execution, target.function, target.runtime):
            reply = thief.request("GET", f"/v1/{kind}?marker={name}")
            assert reply.status_code == 400


@pytest.mark.parametrize("scope", ["project", "nothing", "domain", "system"])
def test_claims_in_headers(deployed: Deployed, keystone: Keystone, thief: Api, target: Target,
                           scope: str) -> None:
    """With a good token; before it, after it, and in the place of what it lacks."""
    mine = keystone.project_id("mine")
    keystone.domain_admin("domain-admin")
    scopes: dict[str, dict[str, Any]] = {"nothing": {}, "domain": {"domain": {"id": "default"}},
                                         "system": {"system": {"all": True}}}
    token = ("X-Auth-Token", thief.headers["X-Auth-Token"] if scope == "project"
             else keystone.token("domain-admin", **scopes[scope]))
    names = ("X-Project-Id", "X-Tenant-Id", "X-Tenant", "X-Project-Name", "X-Tenant-Name")
    claims = [*CLAIMS.items(), *((name, mine) for name in names)]
    lower = [(name.lower(), value) for name, value in claims]
    upper = [(name.upper(), value) for name, value in claims]
    underscores = [(name.replace("-", "_"), value) for name, value in claims]
    denied = 404 if scope == "project" else 403
    for headers in ([token, *claims], [*lower, token], [*underscores, token, *upper]):
        accepting = [*headers, ("Accept", "*/*")]
        for path in (f"/v1/executions/{target.execution}", f"/v1/functions/{target.function}",
                     f"/v1/executions/{target.execution}/log", f"/v1/runtimes/{target.runtime}"):
            for verb in ("GET", "DELETE"):
                status, body = raw(deployed.url, verb, path, accepting)
                assert status in (denied, 403, 405), (verb, path, status)
                assert MARK.encode() not in body
        status, body = raw(deployed.url, "GET", "/v1/executions?all_projects=true", accepting)
        assert status == 403
        status, body = raw(deployed.url, "GET", "/v1/executions", accepting)
        assert status == (200 if scope == "project" else 403) and MARK.encode() not in body


def test_a_token_counts_in_its_own_header_alone(deployed: Deployed, keystone: Keystone) -> None:
    token = keystone.token("mine-admin", "mine")
    service = keystone.token("qinling", "service")
    for headers in ({"Authorization": f"Bearer {token}"}, {"X-Subject-Token": token},
                    {"Cookie": f"token={token}"},
                    {"X-Service-Token": service}, {"X-Service-Token": token},
                    {"X-Auth-Token": f"{token} "[:-3]}, {"X-Auth-Token": f"{token}x"},
                    {"X-Auth-Token": f"x, {token}"},
                    {"X-Auth-Token": "", "X-Service-Token": token}):
        reply = requests.get(f"{deployed.url}/v1/executions", headers=headers, timeout=30)
        assert reply.status_code == 401, headers.keys()
    for name in ("token", "X-Auth-Token", "auth_token"):
        reply = requests.get(f"{deployed.url}/v1/executions", params={name: token}, timeout=30)
        assert reply.status_code == 401


def test_an_expired_token_is_no_better_for_having_been_good(
        deployed: Deployed, keystone: Keystone, tmp_path: Path) -> None:
    """Neither from the cache, nor because a service may go on with it, which it may."""
    brief = Keystone(tmp_path / "brief", original=keystone, expiration=4)
    try:
        token = brief.token("mine-reader", "mine")
    finally:
        brief.close()
    path = f"{deployed.url}/v1/executions"
    user = {"X-Auth-Token": token}
    for_user = {**user, "X-Service-Token": keystone.token("qinling", "service")}

    def status(headers: dict[str, str]) -> int:
        return requests.get(path, headers=headers, timeout=30).status_code

    assert status(user) == 200
    assert processes.wait_for(lambda: status(user) == 401, 15)
    assert status(for_user) == 200
    assert status(user) == 401
    assert status({**user, "X-Service-Token": "nonsense"}) == 401


def test_an_application_credential_may_do_what_its_rules_say(
        keystone: Keystone, deployed: Deployed,
        start_deployed: Callable[..., Deployed]) -> None:
    """It was answered 500 where nothing else needed the catalogue."""
    rules = [{"service": "function-engine", "method": "GET", "path": "/v1/functions"}]
    caller = deployed.api(token=keystone.application_credential("mine-member", "mine", rules))
    caller.ok("GET", "/v1/functions")
    for method, path in (("POST", "/v1/functions"), ("GET", "/v1/executions"),
                         ("GET", "/v1/functions/x"), ("GET", "/v1/runtimes"),
                         ("GET", "/v1/functions/../executions"), ("DELETE", "/v1/functions")):
        caller.refused(method, path, 401)
    caller.close()
    running = start_deployed(keystone.settings("qinling", "service") + "service_type = a\n"
                             "include_service_catalog = false\n", ready=False)
    assert running.wait() != 0
    assert "service_type needs include_service_catalog" in running.log
