# SPDX-License-Identifier: Apache-2.0
"""The service as pods, deployed by the shipped manifests; the database is outside.

It takes minutes: the image of the service is most of it, as it has to be made first, unless
QINLING_EXEC_TEST_SERVICE_IMAGE names one.
"""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests import databases
from tests.databases.proxy import Proxy
from tests.kubernetes.cluster import Cluster, NoCluster
from tests.kubernetes.deployment import SYSTEM, WORKERS, Deployment

pytestmark = pytest.mark.long

SOURCE = """
import time
def main(name="World", seconds=0):
    time.sleep(seconds)
    print("greeting", name)
    return "Hello, " + name
"""


@pytest.fixture(scope="module")
def deployment(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory,
               database_servers: Callable[[str], databases.Server]) -> Iterator[Deployment]:
    try:
        image = cluster.image("service", "qinling_exec", "alembic", "setup.cfg",
                              "etc/qinling_exec/gunicorn.conf.py")
    except NoCluster as error:
        pytest.skip(str(error))
    server = database_servers("postgresql")
    with Proxy(server.port, cluster.host) as proxy:
        url = server.address(server.new_schema().rpartition("/")[2], proxy.port)
        made = Deployment(cluster, tmp_path_factory.mktemp("deployment"), image,
                          url.replace("127.0.0.1", cluster.host))
        made.remove()
        try:
            made.apply()
            yield made
        except BaseException:
            print(made.told())
            raise
        finally:
            made.remove()


class Api:
    """A client of the API's Service, as an administrator."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, path: str, **more: Any) -> Any:
        with requests.Session() as session:  # each on a connection of its own
            reply = session.request(method, f"{self._url}/v1/{path}", timeout=120, **more)
        assert reply.ok, (reply.status_code, reply.text)
        return reply.json() if reply.content else None

    def ended(self, execution: str, seconds: float) -> Any:
        """Return an execution that has ended within this time, or as it is then."""
        until = time.monotonic() + seconds
        while ((found := self.call("GET", f"executions/{execution}"))["status"] == "running"
               and time.monotonic() < until):
            time.sleep(0.2)
        return found

    def make_function(self, image: str) -> str:
        runtime = self.call("POST", "runtimes", json={"image": image, "name": "python"})["id"]
        until = time.monotonic() + 120
        while (found := self.call("GET", f"runtimes/{runtime}"))["status"] != "available":
            assert found["status"] != "error" and time.monotonic() < until, found
            time.sleep(0.2)
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as target:
            target.writestr("main.py", SOURCE)
        function = self.call("POST", "functions", data={
            "name": "greet", "runtime_id": runtime, "entry": "main.main",
            "code": '{"source": "package"}'}, files={"package": package.getvalue()})
        return str(function["id"])


@pytest.fixture(scope="module")
def api(deployment: Deployment) -> Api:
    return Api(deployment.url())


@pytest.fixture(scope="module")
def function(api: Api, deployment: Deployment, runtime_image: str) -> str:
    try:
        return api.make_function(runtime_image)
    except BaseException:
        print(deployment.told())
        raise


def test_execution_through_the_service(api: Api, function: str, deployment: Deployment) -> None:
    execution = api.call("POST", "executions", json={
        "function_id": function, "input": '{"name": "pod"}', "sync": True})
    assert execution["status"] == "success", (execution, deployment.told())
    assert '"Hello, pod"' in execution["result"]
    assert (requests.get(f"{deployment.url()}/v1/executions/{execution['id']}/log", timeout=30)
            .text.startswith("greeting pod"))
    (pod,) = [pod for pod in deployment.cluster.get("-n", WORKERS, "pods")["items"]
              if "qinling-exec/worker" in pod["metadata"]["labels"]]
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_api_has_no_rights_and_no_token(deployment: Deployment) -> None:
    look = deployment.cluster.kubectl
    account = f"system:serviceaccount:{SYSTEM}:qinling-exec-api"
    for verb, what in (("list", "pods"), ("get", "secrets"), ("create", "pods")):
        for namespace in (SYSTEM, WORKERS):
            assert "no" in look("auth", "can-i", verb, what, "-n", namespace, "--as", account,
                                check=False)
    pods = deployment.cluster.get("-n", SYSTEM, "pods", "-l",
                                  "app.kubernetes.io/component=api")["items"]
    assert pods
    for pod in pods:
        assert not any("projected" in volume for volume in pod["spec"]["volumes"])


@pytest.mark.parametrize(("verb", "what", "namespace"), [
    ("get", "secrets", WORKERS), ("list", "pods", SYSTEM), ("list", "nodes", WORKERS),
    ("create", "pods/exec", WORKERS), ("create", "rolebindings", WORKERS),
    ("create", "serviceaccounts/token", WORKERS), ("list", "pods", "kube-system"),
    ("update", "deployments", WORKERS)])
def test_engine_has_no_more_rights_than_it_needs(deployment: Deployment, verb: str, what: str,
                                                 namespace: str) -> None:
    account = f"system:serviceaccount:{SYSTEM}:qinling-exec-engine"
    kind, _, part = what.partition("/")
    said = deployment.cluster.kubectl(
        "auth", "can-i", verb, kind, *([f"--subresource={part}"] if part else []), "-n",
        namespace, "--as", account, check=False)
    assert "no" in said.split(), said


def test_engine_has_the_rights_that_it_needs(deployment: Deployment) -> None:
    """Else the test above would show nothing."""
    account = f"system:serviceaccount:{SYSTEM}:qinling-exec-engine"
    assert deployment.cluster.kubectl("auth", "can-i", "patch", "pods", "--subresource=resize",
                                      "-n", WORKERS, "--as", account).split() == ["yes"]


def test_rolling_update_under_load_loses_nothing(api: Api, function: str,
                                                 deployment: Deployment) -> None:
    """Neither of those that callers wait for nor of those that engines run, which they hand over:
    each is begun once.
    """
    stop = threading.Event()
    accepted: dict[bool, list[str]] = {True: [], False: []}
    refused: list[str] = []

    def ask(sync: bool) -> None:
        while not stop.wait(0 if sync else 0.3):  # no more than there is room for
            try:
                execution = api.call("POST", "executions", json={
                    "function_id": function, "input": '{"seconds": 0.2}', "sync": sync})
                accepted[sync].append(execution["id"])
            except (AssertionError, requests.RequestException) as error:
                refused.append(str(error))

    threads = [threading.Thread(target=ask, args=(sync,)) for sync in (True, True, True, False)]
    for thread in threads:
        thread.start()
    try:
        deployment.restart("api")
        deployment.restart("engine")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert refused == []
    for sync, executions in accepted.items():
        assert len(executions) > 10
        ended = [api.ended(execution, 0 if sync else 60) for execution in executions]
        assert [found for found in ended
                if (found["status"], found["attempts"]) != ("success", 1)] == []


def test_nothing_is_left_of_what_is_deleted(api: Api, function: str,
                                            deployment: Deployment) -> None:
    for execution in api.call("GET", "executions?limit=1000")["executions"]:
        api.call("DELETE", f"executions/{execution['id']}")
    api.call("DELETE", f"functions/{function}")
    (runtime,) = api.call("GET", "runtimes")["runtimes"]
    api.call("DELETE", f"runtimes/{runtime['id']}")
    until = time.monotonic() + 60
    while left := deployment.cluster.get("-n", WORKERS, "pods,deployments")["items"]:
        assert time.monotonic() < until, left
        time.sleep(0.5)
