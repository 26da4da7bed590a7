# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key: the same request under the same key is carried out once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.ledger import MODULE, Ledger
from tests.functional.running import Running

pytestmark = pytest.mark.every_database


@pytest.fixture(scope="module")
def function(session_api: Api) -> str:
    return session_api.function(MODULE)


def post(api: Api, key: str, body: dict[str, Any], status: int = 201) -> Any:
    return api.ok("POST", "/v1/executions", status, json=body, headers={"Idempotency-Key": key})


def body(function: str, ledger: Ledger, **more: Any) -> dict[str, Any]:
    return {"function_id": function, "input": f'{{"port": {ledger.port}}}', **more}


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


def test_the_same_answer_and_one_run(api: Api, function: str, ledger: Ledger, key: str) -> None:
    answers = [post(api, key, body(function, ledger)) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["status"] == "success"
    assert ledger.lines == ["run"]


def test_defaults_may_be_written_out(api: Api, function: str, ledger: Ledger, key: str) -> None:
    first = post(api, key, body(function, ledger))
    again = post(api, key, body(function, ledger, sync=True, function_version=0))
    assert first["id"] == again["id"]


@pytest.mark.parametrize("change", [
    {"description": "another"}, {"sync": False}, {"input": "x"}, {"function_alias": "a"},
])
def test_another_request_is_a_conflict(api: Api, function: str, ledger: Ledger, key: str,
                                       change: dict[str, Any]) -> None:
    post(api, key, body(function, ledger))
    text = api.refused("POST", "/v1/executions", 409, json={**body(function, ledger), **change},
                       headers={"Idempotency-Key": key})
    assert "Idempotency-Key" in text
    assert ledger.lines == ["run"]


def test_a_running_synchronous_one_is_waited_for(api: Api, function: str, ledger: Ledger,
                                                 key: str) -> None:
    given = body(function, ledger, input=f'{{"port": {ledger.port}, "wait": true}}')
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(_once, api, key, given) for _ in range(8)]
        assert processes.wait_for(lambda: ledger.lines, 20)
        assert not any(reply.done() for reply in replies)
        ledger.gate.set()
        answers = [reply.result() for reply in replies]
    assert {answer["id"] for answer in answers} == {answers[0]["id"]}
    assert {answer["status"] for answer in answers} == {"success"}
    assert ledger.lines == ["run"]


def _once(api: Api, key: str, given: dict[str, Any]) -> Any:
    """Send a request as the same caller, but not as the one that deletes what it has made."""
    sender = Api(api.url)
    sender.headers, sender.session.verify = api.headers, api.session.verify
    try:
        return post(sender, key, given)
    finally:
        sender.close()


@pytest.mark.parametrize("sync", [True, False])
def test_fifty_at_once_make_one(api: Api, function: str, ledger: Ledger, key: str,
                                sync: bool) -> None:
    given = body(function, ledger, sync=sync, description=key)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: _once(api, key, given), range(50)))
    assert len({answer["id"] for answer in answers}) == 1
    assert api.ended(answers[0]["id"])["status"] == "success"
    assert len(api.listed(description=key)) == 1
    assert ledger.lines == ["run"]


def test_another_project_has_keys_of_its_own(caller_of: Callable[..., Api], api: Api,
                                             function: str, ledger: Ledger, key: str) -> None:
    other = caller_of(project=f"other-{key[:8]}")
    first = post(api, key, body(function, ledger))
    second = post(other, key, body(other.function(MODULE), ledger))
    assert first["id"] != second["id"]
    assert ledger.lines == ["run", "run"]


def test_a_deleted_execution_is_not_run_again(api: Api, function: str, ledger: Ledger,
                                              key: str) -> None:
    made = post(api, key, body(function, ledger))
    api.ok("DELETE", f"/v1/executions/{made['id']}", 204)
    text = api.refused("POST", "/v1/executions", 409, json=body(function, ledger),
                       headers={"Idempotency-Key": key})
    assert made["id"] in text and "deleted" in text
    assert ledger.lines == ["run"]


def test_answered_though_the_function_is_gone(api: Api, ledger: Ledger, key: str) -> None:
    function = api.function(MODULE)
    made = post(api, key, body(function, ledger))
    api.ok("DELETE", f"/v1/functions/{function}", 204)
    assert post(api, key, body(function, ledger)) == made


def test_what_was_refused_keeps_nothing(api: Api, function: str, ledger: Ledger, key: str) -> None:
    headers = {"Idempotency-Key": key}
    missing = {"function_id": str(uuid.uuid4())}
    api.refused("POST", "/v1/executions", 404, json=missing, headers=headers)
    api.refused("POST", "/v1/executions", 400, json={"nonsense": 1}, headers=headers)
    taken = api.run(function, {"port": ledger.port})["id"]
    api.refused("POST", "/v1/executions", 400, json=body(function, ledger, id=taken),
                headers=headers)
    assert post(api, key, body(function, ledger))["status"] == "success"


@pytest.mark.parametrize("bad", ["", "x" * 256, "tab\there", "\xfc"])
def test_what_is_no_key(api: Api, function: str, ledger: Ledger, bad: str) -> None:
    text = api.refused("POST", "/v1/executions", 400, json=body(function, ledger),
                       headers={"Idempotency-Key": bad.encode("latin-1")})
    assert "1 to 255 printable ASCII" in text
    assert ledger.lines == []


def test_forgotten_when_its_time_is_over(start_service: Callable[..., Running], ledger: Ledger,
                                         key: str) -> None:
    api = start_service(settings="[api]\nidempotency_seconds = 1\n").api()
    given = body(api.function(MODULE), ledger)
    first = post(api, key, given)
    assert processes.wait_for(lambda: post(api, key, given)["id"] != first["id"], 10)
    api.close()


def test_a_service_killed_before_its_answer_is_asked_again(
        start_service: Callable[..., Running], ledger: Ledger, key: str) -> None:
    """The client does not know whether the first request arrived."""
    running = start_service()
    api = running.api()
    function = api.function(MODULE)
    given = body(function, ledger, input=f'{{"port": {ledger.port}, "wait": true}}')
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_once, api, key, given)
        assert processes.wait_for(lambda: ledger.lines, 20)
        (made,) = api.listed(function_id=function)
        running.kill()
        with pytest.raises(requests.RequestException):
            answer.result(10)
    api.close()
    api = start_service(port=running.port).api()
    again = post(api, key, given)
    assert again["id"] == made["id"]
    assert again["status"] == "error"
    assert ledger.lines == ["run"]
    api.close()
