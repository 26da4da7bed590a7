# SPDX-License-Identifier: Apache-2.0
"""The service as it is deployed: API processes and engines on one database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment

Deploy = Callable[..., Deployment]
pytestmark = pytest.mark.every_database


def test_any_api_runs_what_any_other_made(deploy: Deploy) -> None:
    deployment = deploy(apis=2, engines=2)
    one, other = deployment.api(0), deployment.api(1)
    function = one.function()
    first = one.ok("POST", "/v1/executions", 201, json={"function_id": function})
    assert first["status"] == "success", deployment.log()
    second = other.ok("POST", "/v1/executions", 201, json={"function_id": function})
    assert second["status"] == "success"
    queued = other.ok("POST", "/v1/executions", 201,
                      json={"function_id": function, "sync": False})
    assert processes.wait_for(
        lambda: one.ok("GET", f"/v1/executions/{queued['id']}")["status"] == "success", 20
    )
    workers = one.ok("GET", f"/v1/functions/{function}/workers")["workers"]
    assert len(workers) == 1


def test_a_second_engine_leaves_runtimes_as_they_are(deploy: Deploy) -> None:
    deployment = deploy(engines=1)
    api = deployment.api()
    before = api.ok("GET", f"/v1/runtimes/{deployment.runtime}")
    deployment.start_engine()
    assert api.ok("GET", f"/v1/runtimes/{deployment.runtime}") == before
    deployment.engines[0].stop()
    done = api.ok("POST", "/v1/executions", 201, json={"function_id": api.function()})
    assert done["status"] == "success", deployment.log()
