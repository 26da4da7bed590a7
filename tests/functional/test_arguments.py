# SPDX-License-Identifier: Apache-2.0
"""Arguments: nothing is silently ignored, and what is part of the path comes from there."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from tests.functional.client import Api
from tests.functional.running import Running

_IMAGE = {"name": "i", "code": '{"source": "image", "image": "user/image"}'}


@pytest.fixture(scope="module")
def ids(session_api: Api) -> dict[str, str]:
    """One object of each kind."""
    function = session_api.function()
    session_api.ok("POST", f"/v1/functions/{function}/versions", 201, json={})
    alias = session_api.ok("POST", "/v1/aliases", 201, json={
        "name": str(uuid.uuid4()), "function_id": function, "function_version": 1})
    return {"function": function, "alias": alias["name"], "runtime": session_api.runtime(),
            "execution": session_api.run(function)["id"],
            "image": session_api.ok("POST", "/v1/functions", 201, json=_IMAGE)["id"]}


OPERATIONS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/executions", None),
    ("GET", "/v1/executions/{execution}", None),
    ("GET", "/v1/executions/{execution}/log", None),
    ("DELETE", "/v1/executions/{execution}", None),
    ("POST", "/v1/executions", {"function_id": "{function}"}),
    ("GET", "/v1/functions", None),
    ("GET", "/v1/functions/{function}", None),
    ("GET", "/v1/functions/{function}?download=true", None),
    ("POST", "/v1/functions", _IMAGE),
    ("PUT", "/v1/functions/{function}", {"name": "changed"}),
    ("DELETE", "/v1/functions/{image}", None),
    ("GET", "/v1/functions/{function}/workers", None),
    ("POST", "/v1/functions/{function}/scale_up", {"count": 1}),
    ("POST", "/v1/functions/{function}/scale_down", {"count": 1}),
    ("POST", "/v1/functions/{function}/detach", None),
    ("GET", "/v1/functions/{function}/versions", None),
    ("GET", "/v1/functions/{function}/versions/1", None),
    ("POST", "/v1/functions/{function}/versions", {"force": True}),
    ("DELETE", "/v1/functions/{function}/versions/1", None),
    ("GET", "/v1/runtimes", None),
    ("GET", "/v1/runtimes/{runtime}", None),
    ("GET", "/v1/runtimes/{runtime}/pool", None),
    ("POST", "/v1/runtimes", {"image": "i"}),
    ("PUT", "/v1/runtimes/{runtime}", {"name": "changed"}),
    ("DELETE", "/v1/runtimes/{runtime}", None),
    ("GET", "/v1/aliases", None),
    ("GET", "/v1/aliases/{alias}", None),
    ("POST", "/v1/aliases", {"name": "other", "function_id": "{function}"}),
    ("PUT", "/v1/aliases/{alias}", {"description": "changed"}),
    ("DELETE", "/v1/aliases/{alias}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS,
                         ids=lambda value: value if isinstance(value, str) else "")
def test_unknown_argument_of_the_query(api: Api, ids: dict[str, str], method: str, path: str,
                                       body: Any) -> None:
    before = _everything(api)
    path = path.format(**ids)
    path += "&nope=1" if "?" in path else "?nope=1"
    if body:
        body = {name: value.format(**ids) if value == "{function}" else value
                for name, value in body.items()}
    text = api.refused(method, path, 400, json=body, headers={"Accept": "*/*"})
    assert text == 'Unknown argument: "nope"'
    assert _everything(api) == before


@pytest.mark.parametrize(("method", "path", "name", "value"), [
    ("DELETE", "/v1/executions", "id", "{execution}"),
    ("DELETE", "/v1/functions", "id", "{function}"),
    ("DELETE", "/v1/runtimes", "id", "{runtime}"),
    ("DELETE", "/v1/aliases", "alias_name", "{alias}"),
    ("DELETE", "/v1/functions/{function}/versions", "version", "1"),
    ("DELETE", "/v1/executions/00000000-0000-4000-8000-000000000000", "id", "{execution}"),
    ("GET", "/v1/executions/00000000-0000-4000-8000-000000000000", "id", "{execution}"),
    ("GET", "/v1/functions/00000000-0000-4000-8000-000000000000", "id", "{function}"),
    ("POST", "/v1/functions/detach", "id", "{function}"),
    ("GET", "/v1/runtimes/pool", "id", "{runtime}"),
])
@pytest.mark.parametrize("where", ["query", "body"])
def test_what_belongs_into_the_path(api: Api, ids: dict[str, str], method: str, path: str,
                                    name: str, value: str, where: str) -> None:
    """DELETE /v1/executions?id=UUID once deleted that execution."""
    before = _everything(api)
    given = {name: value.format(**ids)}
    sent: dict[str, Any] = {"params": given} if where == "query" else {"json": given}
    text = api.refused(method, path.format(**ids), 400, **sent)
    assert text == f'Unknown argument: "{name}". It is given in the path only.'
    assert _everything(api) == before


@pytest.mark.parametrize("method", ["put", "delete", "DELETE", "get", "nonsense"])
def test_method_in_the_query_is_no_method(api: Api, ids: dict[str, str], method: str) -> None:
    before = _everything(api)
    for path in ("/v1/executions/{execution}", "/v1/functions/{function}", "/v1/functions"):
        for verb in ("GET", "POST"):
            reply = api.request(verb, path.format(**ids), params={"_method": method})
            assert reply.status_code in (400, 404, 405)
    assert _everything(api) == before


def test_function_fields_in_the_query_are_fields(api: Api, ids: dict[str, str]) -> None:
    """As in Qinling, where query and form were one."""
    path = f"/v1/functions/{ids['image']}"
    assert api.ok("PUT", f"{path}?name=b%20c", json={})["name"] == "b c"
    assert api.ok("PUT", f"{path}?timeout=7", data={"name": "d"})["timeout"] == 7
    assert "sent twice" in api.refused("PUT", f"{path}?name=b", 400, data={"name": "c"})


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1/executions/x"), ("POST", "/v1/runtimes/x"), ("PUT", "/v1/runtimes/{runtime}/x"),
    ("POST", "/v1/aliases/x"),
    ("POST", "/v1/functions/{function}/versions/1"), ("POST", "/v1/functions/x"),
    ("PUT", "/v1/functions/{function}/x"),
])
@pytest.mark.parametrize("body", [{}, {"description": "d"}])
def test_a_path_that_is_too_long(api: Api, ids: dict[str, str], method: str, path: str,
                                 body: Any) -> None:
    """Its last part was taken for the body, and the refusal named a class."""
    assert api.refused(method, path.format(**ids), 404, json=body) == (
        "There is nothing at this path.")


@pytest.mark.parametrize("name", ["s/x", "/", "a//b", "\u00e5lias/\u2713 x", "x/", "a%2fb"])
def test_an_alias_with_a_slash(api: Api, ids: dict[str, str], name: str) -> None:
    """It could be made, as with Qinling, and never be found: its function was there for good."""
    made = api.ok("POST", "/v1/aliases", 201, json={
        "name": name, "function_id": ids["function"], "function_version": 900})
    path = f"/v1/aliases/{quote(name, safe='')}"
    assert api.ok("GET", path) == made
    assert api.ok("PUT", path, json={"description": "d"})["description"] == "d"
    assert api.request("DELETE", path).status_code == 204
    api.refused("GET", path, 404)


MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(("fields", "status", "text"), [
    ({"runtime_id": MISSING}, 404, f"Runtime not found [id={MISSING}]"),
    ({"runtime_id": "abc"}, 404, "Runtime not found [id=abc]"),
    ({"runtime_id": None}, 400, '"runtime_id" must be specified.'),
    ({"runtime_id": 5}, 400, "Invalid input for field/attribute runtime_id."),
    ({}, 400, "Required param is missing. Required: {'package'}"),
    ({"cpu": "9" * 30}, 400, "cpu resource limitation not within the allowable range: "),
    ({"cpu": "9" * 3000}, 400, "Invalid cpu resource specified. An integer is required."),
    ({"cpu": "--5"}, 400, "Invalid cpu resource specified. An integer is required."),
    ({"code": '{"source": "swift"}'}, 400,
     "Both container and object must be provided for swift type function."),
    ({"code": {"source": "swift", "swift": {"container": "c", "object": "o"}}}, 400,
     "Swift object not supported."),
    ({"code": '{"source": "swift"}', "runtime_id": None}, 400,
     '"runtime_id" must be specified.'),
    ({"code": '{"source": "package", "nope": 1}'}, 400,
     'Invalid input for field/attribute code. Unknown key: "nope".'),
    *[({"code": {"source": "image", "image": image}}, 400,
       "Invalid input for field/attribute code. image: the name of an image has no spaces in it.")
      for image in ("a b", " a", "a\n", "a\u200b")],
    *[({"entry": entry}, 400, "Invalid input for field/attribute entry. ")
      for entry in ("../x.main", ".main", "main.", "main", "a..main")],
], ids=str)
def test_refusals_of_a_new_function(api: Api, ids: dict[str, str], fields: dict[str, Any],
                                    status: int, text: str) -> None:
    """The texts of Qinling, in its order: what is wrong with the runtime is told first."""
    values = {"code": '{"source": "package"}', "runtime_id": ids["runtime"], **fields}
    assert api.refused("POST", "/v1/functions", status, json=values).startswith(text)


def test_package_for_what_is_made_of_an_image(api: Api) -> None:
    assert "no package" in api.refused("POST", "/v1/functions", 400, data=_IMAGE,
                                       files={"package": ("f.zip", b"PK")})


def test_missing_runtime_is_told_before_a_bad_package(api: Api) -> None:
    assert api.refused(
        "POST", "/v1/functions", 404, files={"package": ("f.zip", b"no zip")},
        data={"code": '{"source": "package"}', "runtime_id": MISSING},
    ) == f"Runtime not found [id={MISSING}]"


@pytest.mark.parametrize(("method", "path"), [
    ("GET", ""), ("GET", "?download=true"), ("DELETE", ""), ("POST", "/scale_up"),
    ("POST", "/scale_down"), ("POST", "/detach"),
])
@pytest.mark.parametrize("number", ["-1", "99", "9" * 30])
def test_version_that_is_not_there(api: Api, ids: dict[str, str], method: str, path: str,
                                   number: str) -> None:
    body = {"count": 1} if "scale" in path else None
    text = api.refused(method, f"/v1/functions/{ids['function']}/versions/{number}{path}", 404,
                       json=body)
    assert text == (f"FunctionVersion not found [function_id={ids['function']},"
                    f" version_number={number}]")


@pytest.mark.parametrize("path", ["/v1/functions/{function}/versions", "/v1/aliases"])
@pytest.mark.parametrize(("given", "text"), [
    ("abc", "Expected a uuid but received abc."),
    (5, "Expected a uuid but received 5."),
    (MISSING, f"Invalid input for field/attribute id. Value: '{MISSING}'."
              " Cannot set read only field."),
])
def test_id_is_given_by_the_service(api: Api, ids: dict[str, str], path: str, given: Any,
                                    text: str) -> None:
    """Qinling took an id and ignored it."""
    assert api.refused("POST", path.format(**ids), 400, json={"id": given}) == text


def test_scaling_what_is_made_of_an_image(api: Api, ids: dict[str, str]) -> None:
    """It has no workers: none can be added, and there is nothing to do to have none."""
    path = f"/v1/functions/{ids['image']}"
    for prefix in (path, f"{path}/versions/0"):
        assert "image" in api.refused("POST", f"{prefix}/scale_up", 400, json={"count": 1})
        api.ok("POST", f"{prefix}/scale_down", 202, json={"count": 1})
        api.ok("POST", f"{prefix}/detach", 202)
        for operation in ("scale_up", "scale_down", "detach"):
            body = None if operation == "detach" else {"count": 1}
            assert api.refused("POST", f"{path}/versions/1/{operation}", 404, json=body) == (
                f"FunctionVersion not found [function_id={ids['image']}, version_number=1]")


def test_running_what_is_made_of_an_image(api: Api, service: Running,
                                          ids: dict[str, str]) -> None:
    """Local processes can't: it is refused, and what was accepted when pods could is ended."""
    text = api.refused("POST", "/v1/executions", 400, json={"function_id": ids["image"]})
    assert "needs the Kubernetes orchestrator" in text
    assert api.listed(function_id=ids["image"]) == []
    queued = str(uuid.uuid4())
    database = service.data_dir / "qinling_exec.sqlite"
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        connection.execute(
            "INSERT INTO executions (id, project_id, function_id, function_version, status, sync,"
            " created_at, attempts) SELECT ?, project_id, ?, 0, 'running', 0, created_at, 0"
            " FROM executions WHERE id = ?", (queued, ids["image"], ids["execution"]))
    ended = api.ended(queued)
    assert ended["status"] == "error"
    assert "needs the Kubernetes orchestrator" in ended["result"]


def test_refused_accept_is_no_error_of_the_service(api: Api, service: Running,
                                                   ids: dict[str, str]) -> None:
    before = len(service.log)
    api.refused("GET", f"/v1/runtimes/{ids['runtime']}", 406, headers={"Accept": "text/html"})
    api.refused("GET", f"/v1/executions/{ids['execution']}/log", 406)
    assert " ERROR " not in service.log[before:]


def _everything(api: Api) -> list[Any]:
    """Return what the lists show, but for what changes by itself."""
    return [
        [row["id"] for row in api.listed(limit=1000)],
        *[[{key: value for key, value in row.items() if key not in ("count", "updated_at")}
           for row in api.ok("GET", path, params={"limit": 1000})[name]]
          for path, name in (("/v1/functions", "functions"), ("/v1/runtimes", "runtimes"),
                             ("/v1/aliases", "function_aliases"))],
    ]
