# SPDX-License-Identifier: Apache-2.0
"""What clients rely on when several processes serve them: keys, cancels, logs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.deployment import Deployment
from tests.functional.ledger import MODULE, Ledger

pytestmark = pytest.mark.every_database
Deploy = Callable[..., Deployment]


def given(function: str, ledger: Ledger, **more: Any) -> dict[str, Any]:
    return {"function_id": function, "input": f'{{"port": {ledger.port}, "wait": true}}', **more}


def begin(api: Api, function: str, ledger: Ledger) -> str:
    """Start an execution that goes on until the ledger's gate opens; return its id."""
    made = api.ok("POST", "/v1/executions", 201, json=given(function, ledger, sync=False))
    count = len(ledger.lines)
    assert processes.wait_for(lambda: len(ledger.lines) > count, 30)
    return str(made["id"])


def test_one_key_fifty_times_through_two_processes(deploy: Deploy, ledger: Ledger) -> None:
    deployment = deploy(apis=2, engines=1)
    apis = [deployment.api(0), deployment.api(1)]
    function = apis[0].function(MODULE, timeout="60")
    ledger.gate.set()
    key = str(uuid.uuid4())

    def send(number: int) -> Any:
        caller = Api(apis[number % 2].url)
        try:
            return caller.ok("POST", "/v1/executions", 201, json=given(function, ledger),
                             headers={"Idempotency-Key": key})
        finally:
            caller.close()

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))
    assert {answer["id"] for answer in answers} == {answers[0]["id"]}
    assert {answer["status"] for answer in answers} == {"success"}, deployment.log()
    assert len(apis[0].listed(function_id=function)) == 1
    assert ledger.lines == ["run"]


def test_cancelled_and_deleted_through_another_process(deploy: Deploy, ledger: Ledger) -> None:
    deployment = deploy(apis=2, engines=1)
    one, other = deployment.api(0), deployment.api(1)
    function = one.function(MODULE, timeout="60")
    first, second = begin(one, function, ledger), begin(one, function, ledger)
    reply = other.ok("POST", f"/v1/executions/{first}/cancel")
    assert reply["status"] == "cancelled"
    assert one.show(first) == reply
    other.ok("DELETE", f"/v1/executions/{second}", 204)
    one.refused("GET", f"/v1/executions/{second}", 404)

    # A synchronous caller's own run, in the process that it asked.
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(one.ok, "POST", "/v1/executions", 201, json=given(function, ledger))
        assert processes.wait_for(lambda: len(ledger.lines) == 3, 30)
        (running,) = other.listed(function_id=function, status="running")
        cancelled = other.ok("POST", f"/v1/executions/{running['id']}/cancel")
        assert answer.result(30) == cancelled
    # The worker is as good as new.
    ledger.gate.set()
    assert one.ok("POST", "/v1/executions", 201, json=given(function, ledger))["status"] == (
        "success")


def test_what_was_printed_before_the_engine_was_killed_is_kept(deploy: Deploy) -> None:
    deployment = deploy(apis=1, engines=1)
    api = deployment.api()
    function = api.function("import time\n\n\ndef main():\n    print('x' * 5000, flush=True)\n"
                            "    time.sleep(60)\n", timeout="90")
    made = api.ok("POST", "/v1/executions", 201, json={"function_id": function, "sync": False})
    path = f"/v1/executions/{made['id']}/log"
    headers: dict[str, str | None] = {"Accept": "text/plain"}
    assert processes.wait_for(lambda: api.request("GET", path, headers=headers).content, 30)
    deployment.engines[0].kill()
    assert api.request("GET", path, headers=headers).content == b"x" * 5000 + b"\n"
    deployment.start_engine()
    assert api.ended(made["id"], 60)["status"] == "error"
    assert api.request("GET", path, headers=headers).content == b"x" * 5000 + b"\n"
