# SPDX-License-Identifier: Apache-2.0
"""How often an execution is attempted: what a function may say, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.ledger import MODULE, Ledger
from tests.functional.running import Running

FAILS_ONCE = """
def main(context):
    if context["attempt"] == 1:
        raise ValueError("first")
    return [context["attempt"], context["execution_id"]]
"""


def test_a_function_is_attempted_once_unless_it_says_more(api: Api) -> None:
    shown = api.ok("GET", f"/v1/functions/{api.function()}")
    assert (shown["max_attempts"], shown["retry_on_failure"]) == (1, False)


def test_fields_in_a_form_and_as_json(api: Api) -> None:
    path = f"/v1/functions/{api.function(max_attempts='3', retry_on_failure='true')}"
    shown = api.ok("GET", path)
    assert (shown["max_attempts"], shown["retry_on_failure"]) == (3, True)
    changed = api.ok("PUT", path, json={"max_attempts": 2, "retry_on_failure": False})
    assert (changed["max_attempts"], changed["retry_on_failure"]) == (2, False)


@pytest.mark.parametrize(("field", "value"), [
    ("max_attempts", 0), ("max_attempts", 11), ("max_attempts", "many"), ("max_attempts", True),
    ("max_attempts", 1.5), ("retry_on_failure", "perhaps"), ("retry_on_failure", 2),
    ("retry_on_failure", []),
])
def test_a_wrong_field_is_refused(api: Api, field: str, value: Any) -> None:
    path = f"/v1/functions/{api.function()}"
    reply = api.request("PUT", path, json={field: value})
    assert reply.status_code == 400
    assert f"field/attribute {field}." in reply.json()["faultstring"]
    assert api.ok("GET", path)["max_attempts"] == 1


def test_a_failure_is_repeated_where_the_function_says_so(api: Api) -> None:
    function = api.function(FAILS_ONCE, max_attempts="2", retry_on_failure="true")
    made = api.run(function)
    assert (made["status"], made["attempts"]) == ("success", 2)
    assert json.loads(made["result"])["output"] == [2, made["id"]]


def test_a_failure_is_not_repeated_otherwise(api: Api) -> None:
    made = api.run(api.function(FAILS_ONCE, max_attempts="2"))
    assert (made["status"], made["attempts"]) == ("failed", 1)


@pytest.mark.parametrize(("most", "status"), [(2, "success"), (1, "error")])
def test_a_lost_worker_is_the_services_fault(start_service: Callable[..., Running],
                                             ledger: Ledger, most: int, status: str) -> None:
    running = start_service()
    api = running.api()
    function = api.function("def before(**kwargs):\n    print('printed')\n\n\n" + MODULE.replace(
        "    with", "    before()\n    with"), max_attempts=str(most), timeout="60")
    made = api.run(function, {"port": ledger.port, "wait": True}, sync=False)["id"]
    assert processes.wait_for(lambda: ledger.lines, 30)
    assert processes.wait_for(lambda: api.log(made), 10) == b"printed\n"
    processes.kill(running.workers())
    assert processes.wait_for(
        lambda: len(ledger.lines) == most and (most == 2 or api.show(made)["attempts"]), 30)
    ledger.gate.set()
    ended = api.ended(made)
    assert (ended["status"], ended["attempts"], len(ledger.lines)) == (status, most, most)
    again = b"[Attempt 2 begins here.]\nprinted\n" if most == 2 else b""
    assert api.log(made) == b"printed\n" + again
    if most == 1:
        assert "The worker that ran the function was lost" in ended["result"]
    api.close()
