# SPDX-License-Identifier: Apache-2.0
"""Functions made of an image when the cluster has no room for their pods: they take turns, and
what can't come to its turn ends with the cluster's words.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.client import result as result_of
from tests.functional.deployment import Deployment
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.cluster import Cluster

_START_SECONDS = 6
#: Who waits for two of them waits for longer than a start may take.
_SLEEP = '["-c", "import time; time.sleep(4)"]'


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], server: ApiServer,
               tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(
        settings={"engine": {"start_timeout": _START_SECONDS},
                  "limits": {"max_cpu": 1000, "max_memory": 2**50}},
        kubernetes={"kubeconfig": server.kubeconfig(tmp_path_factory.mktemp("proxy")),
                    "pool_replicas": 0})


@pytest.fixture
def api(deployment: Deployment) -> Api:
    return deployment.api()


@pytest.fixture(autouse=True)
def nothing_is_left(cluster: Cluster, namespace: str) -> Iterator[None]:
    yield
    assert processes.wait_for(lambda: not cluster.get("-n", namespace, "pods")["items"], 60)


@pytest.fixture
def quota(cluster: Cluster, namespace: str) -> Callable[[str], Any]:
    """Let there be no more pods than that in the namespace, for a while."""
    @contextlib.contextmanager
    def hold(pods: str) -> Iterator[None]:
        cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
                       "spec": {"hard": {"pods": pods}}}, namespace=namespace)
        assert processes.wait_for(lambda: "hard" in cluster.get(
            "-n", namespace, "resourcequota", "few").get("status", {}), 20)
        try:
            yield
        finally:
            cluster.kubectl("-n", namespace, "delete", "resourcequota", "few")

    return hold


def _make(api: Api, image: str, **fields: Any) -> str:
    made = api.ok("POST", "/v1/functions", 201, json={
        "code": {"source": "image", "image": image}, "timeout": 60, "cpu": 500, **fields})
    return str(made["id"])


def _begin(api: Api, function: str, count: int) -> list[str]:
    return [str(api.run(function, _SLEEP, sync=False)["id"]) for _ in range(count)]


def _all_succeed(api: Api, executions: list[str]) -> None:
    ended = [api.ended(execution, 120) for execution in executions]
    assert [(row["status"], row["attempts"], row["result"]) for row in ended
            if (row["status"], row["attempts"]) != ("success", 1)] == []


def test_they_take_turns_where_a_quota_has_room_for_one(
        api: Api, python_image: str, quota: Callable[[str], Any], server: ApiServer) -> None:
    """Who waits is in the queue like any other: it has not begun, and is not late."""
    function = _make(api, python_image)
    with quota("1"):
        began = time.monotonic()
        executions = _begin(api, function, 3)
        time.sleep(3)
        rows = [api.show(execution) for execution in executions]
        assert sorted(row["attempts"] for row in rows) == [0, 0, 1]
        assert sum(row["started_at"] is None for row in rows) == 2
        _all_succeed(api, executions)
        made = [call for call in server.since(began)
                if (call.verb, call.resource) == ("create", "pods")]
    print(f"{len(made)} requests for 3 pods in {time.monotonic() - began:.1f} s")
    assert len(made) < 25, "the cluster is not asked all the time"


@pytest.mark.long
def test_workers_with_nothing_to_do_make_way(deployment: Deployment, api: Api, python_image: str,
                                             quota: Callable[[str], Any]) -> None:
    """They held all the room of a quota for an hour, and runs of images ended as error."""
    functions = [api.function("def main():\n    return 1\n") for _ in range(2)]
    for function in functions:
        assert output(api.run(function)) == 1
    with quota("2"):
        began = time.monotonic()
        execution = api.run(_make(api, python_image), '["-c", "print(1)"]')
        print(f"ended after {time.monotonic() - began:.1f} s")
        assert (execution["status"], execution["attempts"]) == ("success", 1), execution
        left = [worker for function in functions for worker in api.ok(
            "GET", f"/v1/functions/{function}/workers")["workers"]]
        assert len(left) == 1, "one was enough"
    for function in functions:
        api.ok("DELETE", f"/v1/functions/{function}", 204)


@pytest.mark.long
def test_they_take_turns_where_a_node_has_room_for_one(api: Api, python_image: str,
                                                       cluster: Cluster) -> None:
    memory = cluster.get("nodes")["items"][0]["status"]["allocatable"]["memory"]
    # Half of it has to be free; more than the half of the node.
    large = int(memory.removesuffix("Ki")) * 1024 * 12 // 10
    _all_succeed(api, _begin(api, _make(api, python_image, memory_size=str(large)), 3))


@pytest.fixture
def another_runs(api: Api, python_image: str) -> Iterator[None]:
    """A run that gives its room back, but not soon."""
    other = str(api.run(_make(api, python_image), '["-uc", "print(1); import time;'
                        ' time.sleep(55)"]', sync=False)["id"])
    assert processes.wait_for(lambda: api.log(other) == b"1\n", 30)
    yield
    assert api.show(other)["status"] == "running"
    api.ok("POST", f"/v1/executions/{other}/cancel")


@pytest.mark.long
@pytest.mark.usefixtures("another_runs")
def test_no_node_ever_has_room(api: Api, python_image: str) -> None:
    """It waited for as long as anything else went on, as if that could help."""
    execution = api.run(_make(api, python_image, memory_size=str(2**48)))
    assert (execution["status"], execution["attempts"]) == ("error", 1)
    assert "Insufficient memory" in result_of(execution)["output"]


@pytest.mark.long
@pytest.mark.usefixtures("another_runs")
def test_a_quota_is_smaller_than_one_run(api: Api, python_image: str, cluster: Cluster,
                                         namespace: str) -> None:
    """As above."""
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "memory"},
                   "spec": {"hard": {"limits.memory": "1Gi"}}}, namespace=namespace)
    try:
        execution = api.run(_make(api, python_image, memory_size=str(2**31)))
    finally:
        cluster.kubectl("-n", namespace, "delete", "resourcequota", "memory")
    assert (execution["status"], execution["attempts"]) == ("error", 1)
    assert "exceeded quota: memory" in result_of(execution)["output"]


@pytest.mark.long
def test_a_quota_never_has_room(api: Api, python_image: str, quota: Callable[[str], Any]) -> None:
    function = _make(api, python_image)
    with quota("0"):
        began = time.monotonic()
        execution = api.run(function)
        print(f"told after {time.monotonic() - began:.1f} s")
        waits, cancelled = _begin(api, function, 2)
        time.sleep(2)
        reply = api.ok("POST", f"/v1/executions/{cancelled}/cancel")
        assert reply["status"] == "cancelled"
    assert (execution["status"], execution["attempts"]) == ("error", 1)
    assert "exceeded quota: few" in result_of(execution)["output"]
    assert api.ended(waits)["status"] == "success", "it had room in time"


@pytest.mark.long
def test_who_needs_less_does_not_wait_for_who_needs_too_much(
        api: Api, python_image: str, cluster: Cluster, namespace: str) -> None:
    large, small = _make(api, python_image, memory_size=str(2**31)), _make(api, python_image)
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "memory"},
                   "spec": {"hard": {"limits.memory": "1Gi"}}}, namespace=namespace)
    try:
        first, *_ = _begin(api, large, 3)
        time.sleep(1)
        other = str(api.run(small, '["-c", "print(1)"]', sync=False)["id"])
        assert api.ended(other, 20)["status"] == "success"
        assert api.show(first)["status"] == "running"
        assert "exceeded quota: memory" in result_of(api.ended(first, 60))["output"]
    finally:
        cluster.kubectl("-n", namespace, "delete", "resourcequota", "memory")


@pytest.mark.long
def test_who_waits_too_long_is_told_what_for(deployment: Deployment, api: Api, python_image: str,
                                             quota: Callable[[str], Any]) -> None:
    """Although others go on, so that room would come."""
    before = deployment.config.read_text()
    function = _make(api, python_image)
    with quota("1"):
        first = str(api.run(function, '["-uc", "print(1); import time; time.sleep(20)"]',
                            sync=False)["id"])
        assert processes.wait_for(lambda: api.log(first) == b"1\n", 30)
        deployment.config.write_text(before.replace("[engine]\n", "[engine]\nmax_age = 3\n"))
        deployment.engines[-1].reload()
        try:
            waits, = _begin(api, function, 1)
            ended = api.ended(waits, 15)
        finally:
            deployment.config.write_text(before)
            deployment.engines[-1].reload()
        assert (ended["status"], ended["attempts"]) == ("error", 0)
        assert "within 3 seconds" in result_of(ended)["output"]
        assert "exceeded quota: few" in result_of(ended)["output"]
        assert api.ended(first)["status"] == "success"
