# SPDX-License-Identifier: Apache-2.0
"""Executions through the API, on pods of a real cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.deployment import Deployment
from tests.kubernetes.cluster import Cluster


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(kubernetes={"pool_replicas": 2})


@pytest.fixture
def api(deployment: Deployment) -> Api:
    return deployment.api()


@pytest.fixture
def pods(cluster: Cluster, namespace: str) -> Callable[..., list[dict[str, Any]]]:
    """Return the namespace's pods with labels."""
    def find(selector: str = "") -> list[dict[str, Any]]:
        found = cluster.get("-n", namespace, "pods", "-l", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    return find


@pytest.fixture(autouse=True)
def functions_go(deployment: Deployment,
                 pods: Callable[..., list[dict[str, Any]]]) -> Iterator[None]:
    """Delete what a test has made; no worker is left then."""
    yield
    caller = deployment.api()
    for function in caller.ok("GET", "/v1/functions")["functions"]:
        caller.ok("DELETE", f"/v1/functions/{function['id']}", 204)
    assert processes.wait_for(lambda: not pods("qinling-exec/worker"), 30)


def test_a_function_runs_in_a_pod(api: Api, pods: Callable[..., Any]) -> None:
    function = api.function("def main(name):\n    print('in a pod')\n    return name * 2\n")
    execution = api.run(function, {"name": "ab"})
    assert (execution["status"], output(execution)) == ("success", "abab")
    assert api.log(execution["id"]) == b"in a pod\n"
    workers = api.ok("GET", f"/v1/functions/{function}/workers")["workers"]
    taken, = pods("qinling-exec/worker")
    assert taken["metadata"]["labels"]["qinling-exec/worker"] == workers[0]["worker_name"]
    assert "ownerReferences" not in taken["metadata"]
    again = api.run(function, {"name": "c"})
    assert output(again) == "cc"
