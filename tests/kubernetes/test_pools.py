# SPDX-License-Identifier: Apache-2.0
"""Runtimes: when their pools can't be had the record says why; pools follow their runtimes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.deployment import Deployment
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.site import TOO_LARGE, engine_with


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(settings={"engine": {"start_timeout": 15}},
                  kubernetes={"pool_replicas": 1, "runtime_pool_replicas": "three:3"})


@pytest.fixture
def api(deployment: Deployment) -> Api:
    return deployment.api()


def _settled(api: Api, runtime: str) -> dict[str, Any]:
    """Wait until an engine has answered."""
    def status() -> str:
        return str(api.ok("GET", f"/v1/runtimes/{runtime}")["status"])

    processes.wait_for(lambda: status() not in ("creating", "upgrading"), 60)
    return dict(api.ok("GET", f"/v1/runtimes/{runtime}"))


def _make(api: Api, image: str, **values: object) -> dict[str, Any]:
    made = api.ok("POST", "/v1/runtimes", 201, json={"name": "r", "image": image, **values})
    return _settled(api, made["id"])


def _recovers(api: Api, runtime: dict[str, Any]) -> None:
    """Wait until a runtime is well again, without anybody having touched it."""
    path = f"/v1/runtimes/{runtime['id']}"
    assert processes.wait_for(lambda: api.ok("GET", path)["status"] == "available", 60)
    assert api.ok("GET", path)["status_reason"] is None


def test_the_pool_s_figures(api: Api, deployment: Deployment) -> None:
    path = f"/v1/runtimes/{deployment.runtime}/pool"
    assert processes.wait_for(
        lambda: api.ok("GET", path)["capacity"] == {"total": 1, "available": 1}, 30)


def test_an_image_that_nobody_has_at_first(api: Api, cluster: Cluster, namespace: str) -> None:
    image = f"node.local/qinling-exec-late:{secrets.token_hex(4)}"
    runtime = _make(api, image)
    assert runtime["status"] == "error"
    assert image in runtime["status_reason"]
    path = f"/v1/runtimes/{runtime['id']}"
    if cluster.folder is not None:
        cluster.build("python3", image)
        _recovers(api, runtime)
    api.ok("DELETE", path, 204)
    assert processes.wait_for(lambda: not cluster.get(
        "-n", namespace, "deployments", "-l", f"qinling-exec/pool={runtime['id']}")["items"], 30)


def test_a_runtime_that_nobody_trusts_is_refused(api: Api, runtime_image: str) -> None:
    runtime = _make(api, runtime_image, trusted=False)
    assert runtime["status"] == "error"
    assert "untrusted_runtime_class" in runtime["status_reason"]
    api.ok("DELETE", f"/v1/runtimes/{runtime['id']}", 204)


def test_a_quota_that_is_used_up(api: Api, cluster: Cluster, namespace: str,
                                 runtime_image: str) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
                   "spec": {"hard": {"limits.memory": "1Mi"}}}, namespace=namespace)
    try:
        runtime = _make(api, runtime_image)
        assert runtime["status"] == "error"
        assert "quota" in runtime["status_reason"]
    finally:
        cluster.kubectl("-n", namespace, "delete", "resourcequota", "none")
    _recovers(api, runtime)
    api.ok("DELETE", f"/v1/runtimes/{runtime['id']}", 204)


@pytest.mark.long
def test_a_pod_that_no_node_can_have(deployment: Deployment, api: Api,
                                     runtime_image: str) -> None:
    """The runtime says so, and recovers when the operator has asked for less."""
    with engine_with(deployment, TOO_LARGE):
        runtime = _make(api, runtime_image)
        assert runtime["status"] == "error"
        assert "Unschedulable" in runtime["status_reason"]
        assert "nsufficient memory" in runtime["status_reason"]
    _recovers(api, runtime)
    api.ok("DELETE", f"/v1/runtimes/{runtime['id']}", 204)


@pytest.fixture
def forbidden(cluster: Cluster, namespace: str) -> Iterator[str]:
    """The name of an image that a policy of the cluster does not let into the namespace."""
    image, api = "node.local/forbidden:1", "admissionregistration.k8s.io/v1"
    cluster.apply(
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": namespace},
         "spec": {"matchConstraints": {
             "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
             "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                                "operations": ["CREATE"], "resources": ["pods"]}]},
             "validations": [{"expression": f"object.spec.containers[0].image != '{image}'",
                              "message": "this image may not be here"}]}},
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding",
         "metadata": {"name": namespace},
         "spec": {"policyName": namespace, "validationActions": ["Deny"]}})
    yield image
    cluster.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy",
                    namespace)


@pytest.mark.long
def test_an_image_that_a_policy_forbids(api: Api, forbidden: str) -> None:
    time.sleep(2)  # until the cluster's API goes by it
    runtime = _make(api, forbidden)
    assert runtime["status"] == "error"
    assert "this image may not be here" in runtime["status_reason"]
    api.ok("DELETE", f"/v1/runtimes/{runtime['id']}", 204)
    function = api.ok("POST", "/v1/functions", 201, json={
        "code": {"source": "image", "image": forbidden}, "timeout": 20})["id"]
    execution = api.run(function)
    assert (execution["status"], execution["attempts"]) == ("error", 1)
    assert "this image may not be here" in output(execution)


def test_a_pool_goes_with_its_runtime(api: Api, cluster: Cluster, namespace: str,
                                      runtime_image: str) -> None:
    runtime = _make(api, runtime_image)
    assert runtime["status"] == "available"
    selector = f"qinling-exec/pool={runtime['id']}"
    assert cluster.get("-n", namespace, "pods", "-l", selector)["items"]
    api.ok("DELETE", f"/v1/runtimes/{runtime['id']}", 204)
    assert processes.wait_for(lambda: not any(
        cluster.get("-n", namespace, kind, "-l", selector)["items"]
        for kind in ("deployments", "replicasets", "pods")), 60)


def test_a_runtime_with_more_pods_than_others(api: Api, runtime_image: str) -> None:
    made = api.ok("POST", "/v1/runtimes", 201, json={"name": "three", "image": runtime_image})
    path = f"/v1/runtimes/{made['id']}"
    assert processes.wait_for(
        lambda: api.ok("GET", f"{path}/pool")["capacity"] == {"total": 3, "available": 3}, 60)
    api.ok("PUT", path, json={"name": "another"})
    assert processes.wait_for(
        lambda: api.ok("GET", f"{path}/pool")["capacity"] == {"total": 1, "available": 1}, 60)
    api.ok("DELETE", path, 204)


@pytest.mark.long
def test_another_image_rolls_the_pool_and_leaves_what_runs_alone(
        api: Api, cluster: Cluster, namespace: str, runtime_image: str) -> None:
    if cluster.folder is None:
        pytest.skip("There is no program that gives the cluster images.")
    other = f"node.local/qinling-exec-other:{secrets.token_hex(4)}"
    cluster.build("python3", other)

    def images(label: str) -> list[str]:
        found = cluster.get("-n", namespace, "pods", "-l", label)["items"]
        return [pod["spec"]["containers"][0]["image"] for pod in found]

    runtime = _make(api, runtime_image)["id"]
    function = api.function(
        "import time\ndef main():\n    print('begun')\n    time.sleep(25)\n    return 'whole'\n",
        runtime_id=runtime, timeout=60)
    execution = api.run(function, sync=False)["id"]
    assert processes.wait_for(lambda: b"begun" in api.log(execution), 30)
    path = f"/v1/runtimes/{runtime}"
    assert "in use" in api.refused("PUT", path, 403, json={"image": other})
    api.ok("POST", f"/v1/functions/{function}/detach", 202)  # it takes no more runs
    api.ok("PUT", path, json={"image": other})
    assert _settled(api, runtime)["status"] == "available"
    assert processes.wait_for(lambda: images(f"qinling-exec/pool={runtime}") == [other], 30)
    assert api.show(execution)["status"] == "running"
    assert images("qinling-exec/worker") == [runtime_image]
    assert output(api.ended(execution, 60)) == "whole"
    quick = api.function("def main():\n    return 'new'\n", runtime_id=runtime)
    assert output(api.run(quick)) == "new"
    assert other in images("qinling-exec/worker")
    for made in (function, quick):
        api.ok("DELETE", f"/v1/functions/{made}", 204)
    api.ok("DELETE", path, 204)
