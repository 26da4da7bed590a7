# SPDX-License-Identifier: Apache-2.0
"""The reference of the API does not lie: its samples and its OpenAPI document are tried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.functional import processes
from tests.functional.client import Api, make_zip
from tests.functional.reference import document, pages, routes
from tests.functional.reference.refusals import REFUSED
from tests.functional.reference.samples import FOLDER, Samples
from tests.functional.reference.scenario import CALLS, MISSING, Call
from tests.functional.running import Running

DOCUMENT = document.load()
#: These answer every method alike, as Qinling's do.
ANY_METHOD = {"/", "/v1", "/v1/"}


@dataclass
class Walk:
    """What came of the calls and of the requests that are refused, in their order."""

    api: Api
    samples: Samples
    replies: list[requests.Response]
    refusals: list[requests.Response]


@pytest.fixture(scope="module")
def walk(service: Running) -> Iterator[Walk]:
    """Make all calls once, in their order, in a project of their own."""
    api = service.api(project="reference", roles="admin")
    done = Walk(api, Samples(), [], [])
    for call in CALLS:
        if call.method == "DELETE" and not done.refusals:
            _refuse_all(done)
        reply = _make(done, call)
        done.replies.append(reply)
        if call.reply and call.reply.endswith(".json") and reply.status_code == call.status:
            done.samples.compare(call.reply, reply.json())
    yield done
    api.close()


def _make(walk: Walk, call: Call) -> requests.Response:
    """Make a call; again and again, where it says so."""
    options: dict[str, Any] = {"headers": call.headers}
    if call.request:
        options["json"] = walk.samples.json(call.request)
        if call.package is not None:
            options["data"] = options.pop("json")
            options["files"] = {"package": ("f.zip", make_zip({"main.py": call.package}))}
        options = {name: _placed(walk.samples, value) if name in ("json", "data") else value
                   for name, value in options.items()}
    path = walk.samples.place(call.path)
    found: list[requests.Response] = []

    def again() -> bool:
        found.append(walk.api.request(call.method, path, **options))
        return call.until is None or found[-1].json().get(call.until[0]) == call.until[1]

    processes.wait_for(again, 20)
    return found[-1]


def _placed(samples: Samples, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: samples.place(value) if isinstance(value, str) else value
            for name, value in fields.items()}


@pytest.mark.parametrize(("number", "call"), list(enumerate(CALLS)), ids=str)
def test_call(walk: Walk, number: int, call: Call) -> None:
    """The request is as documented, and the reply too, and it looks like the sample."""
    kind, body = "", None
    if call.request:
        kind, body = "application/json", walk.samples.json(call.request)
        if call.package is not None:
            kind, body = "multipart/form-data", {
                **{name: int(text) if text.isdigit() else text for name, text in body.items()},
                "package": "",
            }
    DOCUMENT.check_request(call.method, call.path, kind, body)
    reply = walk.replies[number]
    assert reply.status_code == call.status, reply.text
    DOCUMENT.check_reply(reply)
    if call.reply is None:
        return
    if call.reply.endswith(".json"):
        assert walk.samples.compare(call.reply, reply.json()) == []
    else:
        assert reply.text == walk.samples.text(call.reply)


def _refuse_all(walk: Walk) -> None:
    for method, path, roles, options, _ in REFUSED:
        sent = dict(options)
        if "json" in sent:
            sent["json"] = _placed(walk.samples, sent["json"])
        sent["headers"] = {"X-Roles": roles, **sent.get("headers", {})}
        walk.refusals.append(walk.api.request(method, walk.samples.place(path), **sent))


@pytest.mark.parametrize(
    ("number", "status"), [(number, item[-1]) for number, item in enumerate(REFUSED)],
    ids=[f"{method} {path} {sent or ''} {roles}" for method, path, roles, sent, _ in REFUSED],
)
def test_refusal(walk: Walk, number: int, status: int) -> None:
    reply = walk.refusals[number]
    assert reply.status_code == status, reply.text
    DOCUMENT.check_reply(reply)


def test_samples_of_faults(walk: Walk) -> None:
    for sample, path in (("fault.json", "executions"), ("fault-bare.json", "functions")):
        reply = walk.api.request("GET", f"/v1/{path}/{MISSING}")
        assert walk.samples.compare(sample, reply.json()) == []
        pattern = re.sub(r"id=[^]]+", f"id={MISSING}", walk.samples.json(sample)["faultstring"])
        assert reply.json()["faultstring"] == pattern


def test_every_sample_is_tried_and_shown() -> None:
    files = {file.name for file in FOLDER.iterdir()}
    named = {name for call in CALLS for name in (call.request, call.reply) if name}
    assert named | {"fault.json", "fault-bare.json"} == files
    assert pages.shown_samples() == files


def test_every_operation_is_called() -> None:
    called = {DOCUMENT.of(call.method, call.path).id for call in CALLS}
    assert called == {item.id for item in DOCUMENT.operations}


def test_document_is_valid() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT.content).iter_errors()) == []
    names = [item.id for item in DOCUMENT.operations]
    assert len(set(names)) == len(names)


def test_document_is_what_the_service_answers(api: Api) -> None:
    assert api.ok("GET", "/v1/openapi.json") == DOCUMENT.content


def test_objects_are_closed() -> None:
    """No schema lets a member pass that it does not name, but that of the document itself."""
    schemas = DOCUMENT.content["components"]["schemas"]
    for name, schema in schemas.items():
        if schema.get("type") == "object" and name != "OpenApi":
            assert schema["additionalProperties"] is False, name
            assert set(schema.get("required", [])) <= set(schema["properties"]), name


def test_document_has_the_routes_of_the_controllers() -> None:
    documented = {(item.method, re.sub(r"\{\w+\}", "{}", item.path))
                  for item in DOCUMENT.operations}
    assert documented == set(routes.routes())


def test_lists_take_the_documented_arguments() -> None:
    """The arguments of the methods that list are those in the document."""
    found = routes.routes()
    for item in DOCUMENT.operations:
        answerer = found[item.method, re.sub(r"\{\w+\}", "{}", item.path)]
        if answerer.__name__ == "get_all":
            taken = set(routes.arguments(answerer)[item.path.count("{"):])
            assert taken == item.names("query"), item.id


EXAMPLES = {
    "limit": "5", "all_projects": "true", "project_id": "in:reference,default",
    "function_version": "0", "sync": "true", "attempts": "gte:1", "id": MISSING,
    "function_id": f"neq:{MISSING}", "function_alias": "live", "description": "has:greet",
    "status": "in:success,failed", "request_id": "req-1",
    **dict.fromkeys(("created_at", "updated_at", "started_at", "finished_at"),
                    "lt:2050-01-31T12:00:00Z"),
}


@pytest.mark.parametrize(("path", "name"), [
    (item.path, name) for item in DOCUMENT.operations for name in sorted(item.names("query"))
    if item.names("query") & {"limit", "function_version"} and name != "marker"
])
def test_argument_of_a_list(api: Api, path: str, name: str) -> None:
    """Every documented argument is taken; sort takes each column that its pattern names."""
    if "{" in path:
        path = path.replace("{function_id}", api.function())
    values = [EXAMPLES.get(name, "")]
    if name == "sort":
        (schema,) = (item["schema"] for item in DOCUMENT.of("GET", path).parameters
                     if item["name"] == "sort")
        columns = re.match(r"\^\(([a-z_|]+)\)", schema["pattern"])
        assert columns is not None
        values = [f"{column}:desc" for column in columns[1].split("|")] + [schema["default"]]
    for value in values:
        reply = api.request("GET", path, params={name: value})
        assert reply.status_code == 200, reply.text
        DOCUMENT.check_reply(reply)


def test_marker_of_a_list(api: Api) -> None:
    for _ in range(2):
        api.function()
    reply = api.request("GET", "/v1/functions?limit=1")
    DOCUMENT.check_reply(reply)
    following = api.session.get(reply.json()["next"], headers=api.headers, timeout=60)
    assert following.status_code == 200
    DOCUMENT.check_reply(following)
    assert following.json()["functions"][0]["id"] != reply.json()["functions"][0]["id"]


def _undocumented() -> Iterator[tuple[str, str]]:
    for path in DOCUMENT.content["paths"]:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            if method.lower() not in DOCUMENT.content["paths"][path] and path not in ANY_METHOD:
                yield method, path


@pytest.mark.parametrize(("method", "path"), list(_undocumented()))
def test_what_is_not_documented_is_not_there(caller_of: Callable[..., Api], method: str,
                                             path: str) -> None:
    api = caller_of(project="nobody")
    reply = api.request(method, re.sub(r"\{\w+\}", MISSING, path), json={})
    # 400: Pecan finds the method of the resource, which misses an id.
    assert reply.status_code in (400, 404, 405), reply.text


@pytest.mark.parametrize("item", DOCUMENT.operations, ids=lambda item: item.id)
def test_page_of_an_operation(item: document.Operation) -> None:
    """The reference for people tells the same as the document for programs."""
    page = pages.pages()[item.method, item.path]
    assert page.codes == set(item.replies)
    for place in ("path", "query", "header"):
        assert page.request[place] == item.names(place), place
    body: set[str] = set()
    for pointer in item.bodies.values():
        body |= DOCUMENT.properties({"$ref": f"#{pointer}"}).keys()
    assert page.request["body"] == body
    members: set[str] = set()
    headers: set[str] = set()
    for code, reply in item.replies.items():
        if code < 400:
            headers |= reply["headers"].keys() - {"X-Openstack-Request-Id"}
            for kind, content in reply.get("content", {}).items():
                if kind == "application/json" and item.path != "/v1/openapi.json":
                    members |= DOCUMENT.properties(content["schema"]).keys()
    assert page.reply["header"] == headers
    # What a link of a version has is told in words.
    assert page.reply["body"] == members - {"href", "target", "rel"}


def test_pages_and_parameters_are_all_used() -> None:
    assert pages.pages().keys() == {(item.method, item.path) for item in DOCUMENT.operations}
    assert pages.referred() == pages.defined().keys()
