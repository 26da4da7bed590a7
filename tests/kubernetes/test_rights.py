# SPDX-License-Identifier: Apache-2.0
"""The rights of the shipped Role are enough for an engine, and it needs each of them.

What an engine with that Role alone asks the cluster for on the way is written down, and is the
Role. Without one of the verbs the engine can't do something, and says what it must not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional import processes
from tests.functional.client import output
from tests.functional.deployment import Deployment
from tests.kubernetes import rights
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.calls import Call
from tests.kubernetes.cluster import Cluster

_ROOT = Path(__file__).parents[2]
_GUIDE = _ROOT / "doc/source/admin/kubernetes.rst"
_RIGHT = re.compile(r"^(\(core\)|``apps``) +``([\w/]+)`` +([a-z, ]+)$", re.M)


def test_the_guide_names_the_rights_of_the_role() -> None:
    rules = [{"apiGroups": [group.strip("`") if group != "(core)" else ""],
              "resources": [resource], "verbs": verbs.strip().split(", ")}
             for group, resource, verbs in _RIGHT.findall(_GUIDE.read_text(encoding="utf-8"))]
    assert rights.of(rules) == rights.shipped()


@pytest.mark.long
def test_an_engine_uses_the_rights_of_the_role_and_no_others(
        deploy: Callable[..., Deployment], server: ApiServer, cluster: Cluster, namespace: str,
        tmp_path: Path, runtime_image: str, python_image: str,
        runtime_class: Callable[[str], str]) -> None:
    deployment = deploy(
        settings={"engine": {"start_timeout": 10}},
        kubernetes={"kubeconfig": server.kubeconfig(tmp_path), "pool_replicas": 1,
                    "untrusted_runtime_class": runtime_class("no-such-handler")})
    api = deployment.api()
    # Why its pods do not start is told by events alone.
    broken = api.ok("POST", "/v1/runtimes", 201, json={
        "name": "broken", "image": runtime_image, "trusted": False})["id"]
    warm = api.function("def main():\n    return 1\n")

    def is_take(call: Call) -> bool:
        return call.verb == "patch" and call.resource == "pods"

    server.answer(409, is_take, times=1)  # as if another engine had been faster
    assert output(api.run(warm)) == 1
    large = api.function("def main():\n    return 2\n", memory_size=str(2**27))
    assert output(api.run(large)) == 2, "a pod of its own"
    for function in (warm, large):
        api.ok("DELETE", f"/v1/functions/{function}", 204)
    assert processes.wait_for(lambda: not cluster.get(
        "-n", namespace, "pods", "-l", "qinling-exec/worker")["items"], 60)
    path = f"/v1/runtimes/{broken}"
    assert processes.wait_for(lambda: api.ok("GET", path)["status"] == "error", 60)
    assert "no-such-handler" in api.ok("GET", path)["status_reason"]
    _run_an_image(deployment, python_image)
    for runtime in (broken, deployment.runtime):
        api.ok("DELETE", f"/v1/runtimes/{runtime}", 204)
    assert processes.wait_for(
        lambda: not cluster.get("-n", namespace, "pods,deployments")["items"], 60)
    assert "forbidden" not in deployment.log()
    asked = {(call.group, call.resource, call.verb) for call in server.calls}
    assert asked == rights.shipped()
    server.heal()


def _run_an_image(deployment: Deployment, image: str) -> None:
    """Run one with an engine that has no class for what nobody trusts."""
    deployment.engines[-1].stop()
    text = deployment.config.read_text(encoding="utf-8")
    deployment.config.write_text(text.replace("untrusted_runtime_class", "#"), encoding="utf-8")
    deployment.start_engine()
    api = deployment.api()
    function = api.ok("POST", "/v1/functions", 201, json={
        "code": {"source": "image", "image": image}, "timeout": 20})["id"]
    execution = api.run(function, '["-c", "print(3)"]')
    assert (execution["status"], api.log(execution["id"])) == ("success", b"3\n")
