# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of the cluster: an engine's health and metrics, the check of rights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from qinling_exec.orchestrator.kubernetes.rights import NEEDED
from tests.functional import processes
from tests.functional.client import output
from tests.functional.deployment import Deployment
from tests.functional.running import free_port
from tests.kubernetes import rights
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.rights import Access
from tests.kubernetes.site import WORKER


@pytest.fixture(scope="module")
def port() -> int:
    """Where the engine answers."""
    return free_port()


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], server: ApiServer, port: int,
               tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    settings = {"DEFAULT": {"use_json": "true"}, "monitoring": {"engine_port": port}}
    return deploy(settings=settings, kubernetes={
        "kubeconfig": server.kubeconfig(tmp_path_factory.mktemp("proxy")), "pool_replicas": 1})


def checked(config: Path) -> tuple[int, str]:
    """Return what the check before an upgrade says of the orchestrator."""
    done = subprocess.run(
        [sys.executable, "-m", "qinling_exec.cmd.status", "--config-file", str(config),
         "upgrade", "check", "--json"], capture_output=True, text=True, check=False, timeout=60)
    (found,) = [one for one in json.loads(done.stdout)["checks"] if one["check"] == "Orchestrator"]
    return found["result"], found["details"]


def test_pods_that_were_started(deployment: Deployment, python_image: str, port: int) -> None:
    api = deployment.api()
    assert output(api.run(api.function("def main():\n    return 1\n"))) == 1
    large = api.function("def main():\n    return 2\n", memory_size=str(2**27))
    assert output(api.run(large)) == 2
    image = api.ok("POST", "/v1/functions", 201, json={
        "code": {"source": "image", "image": python_image}, "timeout": 20})["id"]
    assert api.run(image, '["-c", "print(3)"]')["status"] == "success"
    told = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    for kind in ("pool", "worker", "image"):
        assert f'qinling_exec_pod_start_seconds_count{{kind="{kind}"}} 1.0' in told
    assert "qinling_exec_worker_start_seconds_count 2.0" in told


def test_what_workers_say(deployment: Deployment, cluster: Cluster, namespace: str) -> None:
    """As JSON, like the engine; with the id of the request that asked for a run."""
    api = deployment.api()
    reply = api.request("POST", "/v1/executions", json={
        "function_id": api.function("import os\ndef main():\n    os._exit(3)\n")})
    said = cluster.kubectl("-n", namespace, "logs", "-l", WORKER, "--tail", "-1")
    lines = [json.loads(line) for line in said.splitlines()]
    (line,) = [line for line in lines
               if line["message"] == f"execution {reply.json()['id']} ended: exit"]
    assert line["context"] == {"request_id": reply.headers["X-Openstack-Request-Id"]}


def test_whether_the_cluster_answers(deployment: Deployment, server: ApiServer, port: int,
                                     namespace: str) -> None:
    def health() -> bool:
        reply = requests.get(f"http://127.0.0.1:{port}/healthcheck", timeout=30)
        (check,) = [one for one in reply.json()["checks"] if one["name"] == "orchestrator"]
        assert reply.ok is check["healthy"], reply.text
        return bool(check["healthy"])

    assert health()
    assert checked(deployment.config) == (
        0, f"The cluster allows what an engine does in the namespace {namespace}.")
    server.refuse()
    server.end_watches()
    assert processes.wait_for(lambda: not health(), 30)
    result, text = checked(deployment.config)
    assert result == 2
    assert "The cluster can't be reached" in text
    server.heal()
    assert processes.wait_for(health, 30)


def test_rights_that_are_missing(access: Access, namespace: str, tmp_path: Path) -> None:
    access.give({"poor": rights.shipped() - {("", "pods/resize", "patch")}})
    config = tmp_path / "qinling_exec.conf"
    config.write_text("[engine]\norchestrator = kubernetes\n[kubernetes]\n"
                      f"kubeconfig = {access.kubeconfig('poor')}\nnamespace = {namespace}\n")
    assert checked(config) == (2, "The cluster does not allow what an engine has to do in the"
                                  f" namespace {namespace}: patch pods/resize.")


def test_the_check_asks_for_the_rights_of_the_role() -> None:
    assert {(group, resource, verb) for (group, resource), verbs in NEEDED.items()
            for verb in verbs} == rights.shipped()
