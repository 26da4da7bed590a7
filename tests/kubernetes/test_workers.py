# SPDX-License-Identifier: Apache-2.0
"""Pods that go, engines that die: workers are replaced, taken over, and never left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.deployment import Deployment
from tests.kubernetes.cluster import Cluster

ADD = "def main(x):\n    return x + 1\n"
#: Between the steps of making a worker; see qinling_exec.faultpoint.
STEPS = ("pod-chosen", "pod-taken", "pod-specialized", "pod-recorded")
_WORKER = "qinling-exec/worker"


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(engines=1)


@pytest.fixture
def api(deployment: Deployment) -> Api:
    return deployment.api()


@pytest.fixture
def pods(cluster: Cluster, namespace: str) -> Callable[..., list[str]]:
    """Return the names of pods with labels that are not about to go."""
    def find(selector: str = _WORKER) -> list[str]:
        found = cluster.get("-n", namespace, "pods", "-l", selector)["items"]
        return [pod["metadata"]["name"] for pod in found
                if "deletionTimestamp" not in pod["metadata"]]

    return find


@pytest.fixture(autouse=True)
def functions_go(deployment: Deployment, pods: Callable[..., list[str]]) -> Iterator[None]:
    """Delete what a test has made; no worker is left then."""
    yield
    caller = deployment.api()
    for function in caller.ok("GET", "/v1/functions")["functions"]:
        caller.ok("DELETE", f"/v1/functions/{function['id']}", 204)
    assert processes.wait_for(lambda: not pods(), 60), deployment.log()


def _worker(api: Api, function: str) -> list[str]:
    workers = api.ok("GET", f"/v1/functions/{function}/workers")["workers"]
    return [str(item["worker_name"]) for item in workers]


def test_a_deleted_pod_is_replaced(api: Api, cluster: Cluster, namespace: str,
                                   pods: Callable[..., list[str]]) -> None:
    function = api.function(ADD)
    assert output(api.run(function, {"x": 1})) == 2
    before, = pods()
    cluster.kubectl("-n", namespace, "delete", "pod", before)
    assert processes.wait_for(lambda: not _worker(api, function), 30), "the row goes too"
    assert output(api.run(function, {"x": 2})) == 3
    after, = pods()
    assert after != before


def test_a_pod_that_nobody_knows_is_ended(api: Api, cluster: Cluster, namespace: str,
                                          pods: Callable[..., list[str]]) -> None:
    generic = pods("qinling-exec/pool")[0]
    cluster.kubectl("-n", namespace, "label", "pod", generic, "qinling-exec/pool-",
                    f"{_WORKER}=qx-nobody")
    assert processes.wait_for(lambda: generic not in pods(), 60)


def test_another_image_of_a_function_is_another_worker(api: Api,
                                                       pods: Callable[..., list[str]]) -> None:
    function = api.function(ADD)
    assert output(api.run(function, {"x": 1})) == 2
    before, = pods()
    api.ok("PUT", f"/v1/functions/{function}", data={"memory_size": str(2**26)})
    assert output(api.run(function, {"x": 1})) == 2
    assert before not in pods() or processes.wait_for(lambda: before not in pods(), 30)


def test_an_engine_that_comes_takes_over_workers(deployment: Deployment, api: Api,
                                                 pods: Callable[..., list[str]]) -> None:
    function = api.function(ADD)
    assert output(api.run(function, {"x": 1})) == 2
    before = pods()
    deployment.engines[-1].kill()
    deployment.start_engine()
    assert output(api.run(function, {"x": 5})) == 6
    execution = api.run(function, {"x": 6}, sync=False)
    assert output(api.ended(execution["id"])) == 7
    assert pods() == before, "the pod was taken over with its function"


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_two_steps_of_making_a_worker(
        deployment: Deployment, api: Api, step: str, pods: Callable[..., list[str]]) -> None:
    deployment.engines[-1].stop()
    engine = deployment.start_engine(f"{step}=kill")
    # The engine that is started anew may have begun the run when it is killed as well.
    function = api.function(ADD, max_attempts="3")
    execution = api.run(function, {"x": 1}, sync=False)
    # Its master starts it anew, to be killed again.
    assert processes.wait_for(lambda: engine.log.count("The engine is ready.") > 1, 60)
    engine.kill()
    deployment.start_engine()
    assert output(api.ended(execution["id"], 60)) == 2
    assert processes.wait_for(lambda: len(pods()) == 1, 60), pods()
