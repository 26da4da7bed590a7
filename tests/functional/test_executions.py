# SPDX-License-Identifier: Apache-2.0
"""POST, GET and DELETE of /v1/executions."""

from __future__ import annotations

import json
import re
import socket
import uuid
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.functional import processes
from tests.functional.client import REQUEST_ID, Api, make_zip, output, result
from tests.functional.running import Running

pytestmark = pytest.mark.every_database

ECHO = '''
import time


def main(*args, **kwargs):
    kwargs.pop("context", None)
    time.sleep(kwargs.get("sleep", 0))
    return {"args": args, "kwargs": kwargs}
'''
FIELDS = {
    "id": str, "function_id": str, "function_version": int, "function_alias": type(None),
    "description": type(None), "status": str, "sync": bool, "input": type(None), "result": str,
    "project_id": str, "created_at": str, "updated_at": str, "started_at": str,
    "finished_at": str, "attempts": int, "request_id": str,
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MISSING = "5b0c0a3e-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def echo(session_api: Api) -> str:
    """A function that returns how it was called."""
    return session_api.function(ECHO)


def test_sync_run_has_ended_when_it_is_answered(api: Api, echo: str) -> None:
    made = api.run(echo)
    assert {name: type(value) for name, value in made.items()} == FIELDS
    assert made["status"] == "success"
    assert made["sync"] is True
    assert made["function_version"] == 0
    assert made["project_id"] == api.project
    assert made["attempts"] == 1
    assert output(made) == {"args": [], "kwargs": {}}
    assert list(result(made)) == ["duration", "output"] or list(result(made)) == [
        "output", "duration"]
    assert 0 <= result(made)["duration"] < 5
    assert TIME.fullmatch(made["created_at"])
    assert TIME.fullmatch(made["updated_at"])
    assert made["created_at"][:10] <= made["started_at"][:10] <= made["finished_at"][:10]
    assert made["started_at"] <= made["finished_at"]
    assert api.show(made["id"]) == made


def test_async_run_is_answered_at_once(api: Api, echo: str) -> None:
    made = api.run(echo, {"sleep": 1}, sync=False)
    assert (made["status"], made["result"], made["sync"]) == ("running", None, False)
    assert api.show(made["id"])["status"] == "running"
    ended = api.ended(made["id"])
    assert ended["status"] == "success"
    assert output(ended) == {"args": [], "kwargs": {"sleep": 1}}
    assert result(ended)["duration"] >= 1


def test_duration_is_what_the_function_took(api: Api, echo: str) -> None:
    assert 0.3 <= result(api.run(echo, {"sleep": 0.3}))["duration"] < 3


@pytest.mark.parametrize(("text", "called"), [
    ('{"a": 1, "b": [null, {"c": "ü"}]}',
     {"args": [], "kwargs": {"a": 1, "b": [None, {"c": "ü"}]}}),
    ("{}", {"args": [], "kwargs": {}}),
    ("null", {"args": [], "kwargs": {}}),
    ("hello", {"args": ["hello"], "kwargs": {}}),
    (" ", {"args": [" "], "kwargs": {}}),
    ("1.5", {"args": ["1.5"], "kwargs": {}}),
    ("true", {"args": ["true"], "kwargs": {}}),
    ("[]", {"args": ["[]"], "kwargs": {}}),
    ('["a", 1]', {"args": ['["a", 1]'], "kwargs": {}}),
    ('"quoted"', {"args": ['"quoted"'], "kwargs": {}}),
    ('{"a": ', {"args": ['{"a": '], "kwargs": {}}),
    ('{"a": 9007199254740993}', {"args": [], "kwargs": {"a": 9007199254740993}}),
    ('{"a": 123456789012345678901234567890}',
     {"args": [], "kwargs": {"a": 123456789012345678901234567890}}),
    ("ünïcödé ✓ \U0001f600", {"args": ["ünïcödé ✓ \U0001f600"], "kwargs": {}}),
    ("a\nb\tc", {"args": ["a\nb\tc"], "kwargs": {}}),
])
def test_input_reaches_the_function(api: Api, echo: str, text: str, called: Any) -> None:
    made = api.run(echo, text)
    assert made["status"] == "success", made
    assert output(made) == called
    assert made["input"] == (text if text != "null" else None)
    assert api.show(made["id"])["input"] == made["input"]


def test_empty_input_is_kept_honestly(api: Api, echo: str) -> None:
    made = api.run(echo, "")
    assert made["status"] == "success"
    assert made["input"] in ("", None)
    assert output(made)["kwargs"] == {}


def test_unset_fields_as_null(api: Api, echo: str) -> None:
    made = api.run(echo, function_version=None, function_alias=None, description=None, input=None)
    assert made["status"] == "success"


def test_version_and_alias(api: Api) -> None:
    function = api.function("def main(**kwargs):\n    return 'one'\n")
    api.ok("POST", f"/v1/functions/{function}/versions", 201, json={})
    name = f"alias {uuid.uuid4()}"
    api.ok("POST", "/v1/aliases", 201,
           json={"name": name, "function_id": function, "function_version": 1})
    by_version = api.run(function, function_version=1)
    assert (by_version["function_version"], output(by_version)) == (1, "one")
    by_alias = api.ok("POST", "/v1/executions", 201, json={"function_alias": name})
    assert by_alias["function_id"] == function
    assert (by_alias["function_version"], by_alias["function_alias"]) == (1, name)
    assert api.ok("GET", f"/v1/functions/{function}/versions/1")["count"] == 2
    assert api.ok("GET", f"/v1/functions/{function}")["count"] == 0


def test_new_package_is_never_served_by_an_old_worker(api: Api) -> None:
    function = api.function("def main(**kwargs):\n    return 0\n")
    assert output(api.run(function)) == 0
    for number in range(1, 4):
        package = make_zip({"main.py": f"def main(**kwargs):\n    return {number}\n"})
        api.ok("PUT", f"/v1/functions/{function}", data={"code": '{"source": "package"}'},
               files={"package": ("f.zip", package)})
        assert output(api.run(function)) == number


def test_new_timeout_is_in_force_at_once(api: Api) -> None:
    function = api.function(ECHO, timeout="10")
    assert api.run(function, {"sleep": 0})["status"] == "success"
    api.ok("PUT", f"/v1/functions/{function}", json={"timeout": 1})
    made = api.run(function, {"sleep": 5})
    assert (made["status"], output(made)) == ("failed", "Function execution timeout")


def test_own_id(api: Api, echo: str) -> None:
    wanted = str(uuid.uuid4())
    assert api.run(echo, id=wanted)["id"] == wanted
    text = api.refused("POST", "/v1/executions", 400, json={"function_id": echo, "id": wanted})
    assert text.startswith("Duplicate entry")
    for spelling in (wanted.upper(), wanted.replace("-", ""), f"{{{wanted}}}"):
        text = api.refused("POST", "/v1/executions", 400,
                           json={"function_id": echo, "id": spelling})
        assert text.endswith(f"Write it as {wanted}.")


def test_request_id_is_in_reply_record_and_service_log(api: Api, echo: str,
                                                       service: Running) -> None:
    reply = api.request("POST", "/v1/executions", json={"function_id": echo})
    request_id = reply.headers["X-Openstack-Request-Id"]
    assert REQUEST_ID.fullmatch(request_id)
    assert reply.json()["request_id"] == request_id
    lines = [line for line in service.log.splitlines() if reply.json()["id"] in line]
    assert lines
    assert all(request_id in line for line in lines), lines


def test_more_runs_than_one_worker_has_room_for(api: Api) -> None:
    function = api.function(ECHO)
    made = [api.run(function, {"sleep": 0.5}, sync=False)["id"] for _ in range(8)]
    assert [api.ended(one)["status"] for one in made] == ["success"] * 8
    workers = api.ok("GET", f"/v1/functions/{function}/workers")["workers"]
    assert 1 <= len(workers) <= 8
    assert len({worker["worker_name"] for worker in workers}) == len(workers)


def test_delete(api: Api, echo: str) -> None:
    made = api.run(echo)
    assert api.ok("DELETE", f"/v1/executions/{made['id']}", 204) is None
    missing = f"Execution not found [id={made['id']}]"
    assert api.refused("GET", f"/v1/executions/{made['id']}", 404) == missing
    assert api.refused("DELETE", f"/v1/executions/{made['id']}", 404) == missing
    assert api.refused("GET", f"/v1/executions/{made['id']}/log", 404,
                       headers={"Accept": "*/*"}) == missing
    assert api.listed(id=made["id"]) == []


def test_delete_ends_a_run_that_goes_on(api: Api, mark: str) -> None:
    code = ("import subprocess\n\n\ndef main(**kwargs):\n"
            f"    subprocess.run(['/bin/sh', '-c', 'sleep 60; : {mark}'])\n")
    function = api.function(code, timeout="60")
    made = api.run(function, sync=False)
    assert processes.wait_for(lambda: processes.marked(mark), 20)
    api.ok("DELETE", f"/v1/executions/{made['id']}", 204)
    assert processes.wait_for(lambda: not processes.marked(mark), 8)
    again = api.run(function, {}, sync=False)
    assert again["status"] == "running"
    api.ok("DELETE", f"/v1/executions/{again['id']}", 204)


@pytest.mark.noauth  # it writes its requests by hand
def test_cancelled_client_does_not_lose_the_run(api: Api, echo: str) -> None:
    mark = f"left {uuid.uuid4()}"
    body = json.dumps({"function_id": echo, "input": '{"sleep": 1}', "description": mark})
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(
            b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
        assert processes.wait_for(lambda: api.listed(description=mark), 10)
    (row,) = api.listed(description=mark)
    ended = api.ended(row["id"])
    assert (ended["status"], output(ended)["kwargs"]) == ("success", {"sleep": 1})


@pytest.mark.parametrize(("body", "status"), [
    ({}, 400),
    ({"function_id": None}, 400),
    ({"function_id": ""}, 400),
    ({"function_id": "abc"}, 400),
    ({"function_id": 5}, 400),
    ({"function_id": [MISSING]}, 400),
    ({"function_id": MISSING}, 404),
    ({"function_alias": "there is none"}, 404),
    ({"function_id": MISSING, "nope": 1}, 400),
    ({"function_id": MISSING, "status": "success"}, 400),
    ({"function_id": MISSING, "result": "{}"}, 400),
    ({"function_id": MISSING, "request_id": "req-1"}, 400),
    ({"function_id": MISSING, "attempts": 7}, 400),
    ({"function_id": MISSING, "sync": "banana"}, 400),
    ({"function_id": MISSING, "sync": 2}, 400),
    ({"function_id": MISSING, "description": "d" * 256}, 400),
    ({"function_id": MISSING, "description": "nul \0"}, 400),
    ({"function_id": MISSING, "description": ["d"]}, 400),
    ({"function_id": MISSING, "function_version": -1}, 400),
    ({"function_id": MISSING, "function_version": 1.5}, 400),
    ({"function_id": MISSING, "function_version": True}, 400),
    ({"function_id": MISSING, "function_version": "x"}, 400),
    ({"function_id": MISSING, "function_version": {}}, 400),
    ({"function_id": MISSING, "input": {"a": 1}}, 400),
    ({"function_id": MISSING, "input": 1}, 400),
    ({"function_id": MISSING, "id": "abc"}, 400),
])
def test_refused_and_nothing_stored(api: Api, body: dict[str, Any], status: int) -> None:
    before = api.listed(sort="created_at:desc", limit=1)
    text = api.refused("POST", "/v1/executions", status, json=body)
    # The field that is wrong is named.
    wrong = [name for name in body if name != "function_id"] or ["function_id", "Function"]
    assert status == 404 or body == {} or any(
        name in text for name in [*wrong, "uuid", "Either function_alias or function_id"]), text
    assert api.listed(sort="created_at:desc", limit=1) == before


@pytest.mark.parametrize("version", [9, 1099511627776, 2**63, 2**70])
def test_missing_version(api: Api, echo: str, version: int) -> None:
    reply = api.request("POST", "/v1/executions",
                        json={"function_id": echo, "function_version": version})
    assert reply.status_code in (400, 404)
    if reply.status_code == 404:
        assert reply.json()["faultstring"] == (
            f"FunctionVersion not found [function_id={echo}, version_number={version}]")


@pytest.mark.parametrize(("method", "path", "status"), [
    ("PUT", f"/v1/executions/{MISSING}", 405),
    ("PATCH", f"/v1/executions/{MISSING}", 405),
    ("DELETE", "/v1/executions", 400),
    ("DELETE", f"/v1/executions/{MISSING}", 404),
    ("DELETE", "/v1/executions/abc", 400),
    ("GET", f"/v1/executions/{MISSING}", 404),
    ("GET", "/v1/executions/abc", 400),
    ("GET", "/v1/executions/%00", 400),
    ("GET", "/v1/executions/%ff%fe", 400),
    ("GET", f"/v1/executions/{MISSING}/nope", 404),
    ("GET", f"/v1/executions/{MISSING}?x=1", 400),
    ("GET", "/v1/nope", 404),
    ("GET", "/nope", 404),
])
def test_clean_refusal_of_a_path(api: Api, method: str, path: str, status: int) -> None:
    body = {"json": {"description": "x"}} if method in ("PUT", "PATCH") else {}
    reply = api.request(method, path, **body)
    assert reply.status_code == status, reply.text
    assert status != 405 or "GET" in reply.headers["Allow"]


def test_head_is_refused_without_a_body(api: Api, echo: str) -> None:
    for path in ("/v1/executions", f"/v1/executions/{api.run(echo)['id']}"):
        reply = api.request("HEAD", path)
        assert (reply.status_code, reply.content) == (405, b"")
