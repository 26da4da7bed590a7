# SPDX-License-Identifier: Apache-2.0
"""More functions at once than the cluster has room for: they take turns, and all end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.deployment import Deployment
from tests.kubernetes import site as sites
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.site import WORKER

FUNCTIONS, EXECUTIONS = 20, 5
SOURCE = "def main(name):\n    print(name)\n    return name\n"


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(kubernetes={"pool_replicas": 1})


@pytest.fixture
def quota(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Room for so few pods that each has to be several functions' in turn."""
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
                   "spec": {"hard": {"pods": "6"}}}, namespace=namespace)
    yield
    cluster.kubectl("-n", namespace, "delete", "resourcequota", "few")


def _all_end(deployment: Deployment) -> list[dict[str, Any]]:
    """Run all functions at once; each execution succeeds, as its own function's."""
    api = deployment.api()
    functions = [api.function(SOURCE, timeout="60") for _ in range(FUNCTIONS)]
    made = [api.run(function, {"name": f"{function} {number}"}, sync=False)
            for number in range(EXECUTIONS) for function in functions]
    ended = [api.ended(one["id"], sites.PATIENCE) for one in made]
    assert Counter(row["status"] for row in ended) == {"success": len(made)}, deployment.log()
    assert [output(row) for row in ended] == [
        f"{function} {number}" for number in range(EXECUTIONS) for function in functions]
    for function in functions:
        api.ok("DELETE", f"/v1/functions/{function}", 204)
    return ended


def _nothing_is_left(cluster: Cluster, namespace: str, api: Api) -> bool:
    return bool(processes.wait_for(lambda: not cluster.get(
        "-n", namespace, "pods", "-l", WORKER)["items"], sites.PATIENCE))


def test_functions_take_turns_in_a_quota(deployment: Deployment, cluster: Cluster,
                                         namespace: str, quota: None) -> None:
    """They ended as error after a minute, as nobody made way who had nothing to do."""
    _all_end(deployment)
    assert _nothing_is_left(cluster, namespace, deployment.api())


@pytest.mark.long
def test_functions_take_turns_on_a_node(deployment: Deployment, cluster: Cluster,
                                        namespace: str) -> None:
    _all_end(deployment)
    assert _nothing_is_left(cluster, namespace, deployment.api())
