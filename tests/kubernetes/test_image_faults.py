# SPDX-License-Identifier: Apache-2.0
"""What befalls pods of functions made of an image, and the way to the cluster's API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.client import result as result_of
from tests.functional.deployment import Deployment
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.pods import describe

pytestmark = pytest.mark.long
_MIB = 2**20
_BEGUN = b"begun\n"


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], server: ApiServer,
               tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(
        settings={"engine": {"start_timeout": 10},
                  "limits": {"max_cpu": 1000, "max_memory": 2**50}},
        kubernetes={"kubeconfig": server.kubeconfig(tmp_path_factory.mktemp("proxy")),
                    "pool_replicas": 0, "scratch_size": 8 * _MIB})


@pytest.fixture
def api(deployment: Deployment) -> Api:
    return deployment.api()


@pytest.fixture(autouse=True)
def nothing_is_left(cluster: Cluster, namespace: str, server: ApiServer) -> Iterator[None]:
    yield
    server.heal()
    assert processes.wait_for(lambda: not cluster.get(
        "-n", namespace, "pods", "-l", "qinling-exec/execution")["items"], 60)


def _make(api: Api, image: str, **fields: Any) -> str:
    made = api.ok("POST", "/v1/functions", 201, json={
        "code": {"source": "image", "image": image}, "timeout": 60, "cpu": 500, **fields})
    return str(made["id"])


def _begin(api: Api, function: str, code: str) -> str:
    given = json.dumps(["-uc", f"import time\nprint('begun')\n{code}"])
    execution = str(api.run(function, given, sync=False)["id"])
    assert processes.wait_for(lambda: _BEGUN in api.log(execution), 30)
    return execution


@pytest.mark.parametrize("break_it", [
    ApiServer.refuse, lambda server: server.answer(500), lambda server: server.answer(429),
], ids=["away", "500", "429"])
def test_it_ends_while_the_api_is_away(api: Api, python_image: str, server: ApiServer,
                                       break_it: Callable[[ApiServer], None]) -> None:
    execution = _begin(api, _make(api, python_image), "time.sleep(4)\nprint('over')\nexit(5)")
    break_it(server)
    server.end_watches()
    time.sleep(12)
    assert api.show(execution)["status"] == "running", "nobody can know yet"
    server.heal()
    ended = api.ended(execution, 40)
    assert (ended["status"], ended["attempts"]) == ("failed", 1)
    assert "status 5" in result_of(ended)["output"]
    assert api.log(execution) == b"begun\nover\n"


def test_it_is_begun_when_the_api_is_back(api: Api, python_image: str, server: ApiServer) -> None:
    function = _make(api, python_image)
    server.refuse()
    server.end_watches()
    execution = str(api.run(function, '["-c", "print(1)"]', sync=False)["id"])
    time.sleep(8)
    assert api.show(execution)["status"] == "running"
    server.heal()
    ended = api.ended(execution, 40)
    assert (ended["status"], ended["attempts"], api.log(execution)) == ("success", 1, b"1\n")


def test_a_pod_that_is_there_already(api: Api, python_image: str, server: ApiServer,
                                     cluster: Cluster, namespace: str) -> None:
    """As when the cluster made it, and the answer was lost: it is the run."""
    server.answer(503, lambda call: (call.verb, call.resource) == ("create", "pods"))
    execution = str(api.run(_make(api, python_image), '["-c", "print(1)"]', sync=False)["id"])
    pod = describe(f"qx-run-{execution}-1", python_image, **{
        "app.kubernetes.io/managed-by": "qinling-exec", "qinling-exec/attempt": "1",
        "qinling-exec/execution": execution})
    pod["metadata"]["annotations"] = {"qinling-exec/timeout": "5", "qinling-exec/log-begin": "0"}
    pod["spec"]["containers"][0]["args"] = ["-c", "print('made before')"]
    pod["spec"]["securityContext"]["runAsUser"] = 65532
    cluster.apply(pod, namespace=namespace)
    server.heal()
    ended = api.ended(execution, 40)
    assert (ended["status"], ended["attempts"]) == ("success", 1)
    assert api.log(execution) == b"made before\n"


def test_it_fills_its_disk(api: Api, python_image: str) -> None:
    execution = _begin(api, _make(api, python_image, timeout=150), (
        "with open('/tmp/x', 'wb') as file:\n for i in range(64):\n"
        "  file.write(bytes(2**20)); file.flush()\ntime.sleep(140)"))
    ended = api.ended(execution, 140)  # nodes look at that once a minute
    assert ended["status"] == "failed", ended
    assert "too much resource consumption" in result_of(ended)["output"]


def test_cancelled_while_no_engine_is_there(deployment: Deployment, api: Api,
                                            python_image: str) -> None:
    execution = _begin(api, _make(api, python_image), "time.sleep(50)")
    deployment.engines[-1].kill()
    reply = api.request("POST", f"/v1/executions/{execution}/cancel")
    assert (reply.status_code, reply.json()["status"]) == (202, "running")
    deployment.start_engine()
    assert api.ended(execution, 30)["status"] == "cancelled"
    assert api.log(execution) == _BEGUN


def test_its_pod_went_while_no_engine_was_there(deployment: Deployment, api: Api,
                                                python_image: str, cluster: Cluster,
                                                namespace: str) -> None:
    execution = _begin(api, _make(api, python_image), "time.sleep(50)")
    deployment.engines[-1].kill()
    cluster.kubectl("-n", namespace, "delete", "pod", f"qx-run-{execution}-1", "--wait=false",
                    "--grace-period=0", "--force")
    deployment.start_engine()
    ended = api.ended(execution, 30)
    assert ended["status"] == "error"
    assert "pod is not there any more" in result_of(ended)["output"]
    assert api.log(execution) == _BEGUN


def test_a_node_that_says_nothing_more(api: Api, python_image: str, cluster: Cluster,
                                       namespace: str) -> None:
    """The pod is gone from the cluster at once, as those of a node that was lost."""
    execution = _begin(api, _make(api, python_image), "time.sleep(50)")
    cluster.kubectl("-n", namespace, "delete", "pod", f"qx-run-{execution}-1", "--wait=false",
                    "--grace-period=0", "--force")
    ended = api.ended(execution, 30)
    assert ended["status"] == "error"
    assert "deleted" in result_of(ended)["output"]


def test_many_at_once(api: Api, python_image: str) -> None:
    function = _make(api, python_image, cpu=100)
    executions = [str(api.run(function, f"-c print({number})", sync=False)["id"])
                  for number in range(20)]
    ended = [api.ended(execution, 120) for execution in executions]
    assert [item["result"] for item in ended if item["status"] != "success"] == []
    assert [api.log(item["id"]) for item in ended] == [b"%d\n" % n for n in range(20)]
