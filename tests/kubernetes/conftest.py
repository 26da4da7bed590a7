# SPDX-License-Identifier: Apache-2.0
"""A real cluster, an image of the Python runtime on it, a namespace for each module's tests."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes import cluster as clusters
from tests.kubernetes import rights
from tests.kubernetes import site as sites
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.rights import Access
from tests.kubernetes.site import Site
from tests.reliability.conftest import WANTED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes long, unless it is asked for."""
    if WANTED == "all":
        return
    skipped = pytest.mark.skip(reason="NOT RUN, it takes long: tox -e kubernetes runs it")
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("long"):
            item.add_marker(skipped)


@pytest.fixture(scope="session")
def cluster() -> clusters.Cluster:
    """The cluster; without one the tests are skipped, and say so.

    It is left running: others may use it, and starting it is most of a short session.
    """
    try:
        return clusters.find()
    except clusters.NoCluster as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def runtime_image(cluster: clusters.Cluster) -> str:
    """The name of an image of the Python runtime as it is in this checkout."""
    return cluster.image("python3", "qinling_exec/__init__.py", "qinling_exec/runtime")


@pytest.fixture(scope="session")
def nodejs_image(cluster: clusters.Cluster) -> str:
    """The same of the Node.js runtime."""
    try:
        return cluster.image("nodejs", "runtimes/nodejs")
    except clusters.NoCluster as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def python_image(cluster: clusters.Cluster) -> str:
    """The name of an image that is Python, for functions made of an image."""
    try:
        return cluster.python_image()
    except clusters.NoCluster as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def namespace(cluster: clusters.Cluster) -> Iterator[str]:
    """A namespace that is gone with all that is in it when the module's tests have ended."""
    name = cluster.make_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="module")
def runtime_class(cluster: clusters.Cluster) -> Iterator[Callable[[str], str]]:
    """Make RuntimeClasses with a handler; they belong to no namespace."""
    made: list[str] = []

    def make(handler: str) -> str:
        made.append(f"qx-{secrets.token_hex(4)}")
        cluster.apply({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                       "metadata": {"name": made[-1]}, "handler": handler})
        return made[-1]

    yield make
    for name in made:
        cluster.kubectl("delete", "runtimeclass", name)


@pytest.fixture(scope="module")
def reachable(cluster: clusters.Cluster) -> None:
    """This machine, where the ledger listens, can be reached by functions in pods."""
    if not cluster.host:
        pytest.skip("CLUSTER_HOST_IP is not set: functions can't reach the ledger")


@pytest.fixture(scope="module")
def access(cluster: clusters.Cluster, namespace: str,
           tmp_path_factory: pytest.TempPathFactory) -> Access:
    """Service accounts of the namespace; "engine" has the rights of the shipped Role."""
    made = Access(cluster, namespace, tmp_path_factory.mktemp("access"))
    made.give({"engine": rights.shipped()})
    return made


@pytest.fixture(scope="module")
def server(cluster: clusters.Cluster, access: Access) -> Iterator[ApiServer]:
    """A proxy in front of the cluster's API, which breaks what it is told to.

    To the cluster whoever comes this way is an engine.
    """
    with ApiServer(cluster, access.token("engine")) as between:
        yield between


@pytest.fixture
def site(cluster: clusters.Cluster, namespace: str, deployment: Deployment,
         server: ApiServer) -> Iterator[Site]:
    """What a test does on the module's own ``deployment``; nothing is left of it."""
    here = Site(cluster, namespace, deployment)
    yield here
    server.heal()  # some engines come through it
    here.finish()


@pytest.fixture(scope="module")
def deploy(cluster: clusters.Cluster, access: Access, server: ApiServer, runtime_image: str,
           namespace: str, tmp_path_factory: pytest.TempPathFactory,
           ) -> Iterator[Callable[..., Deployment]]:
    """Start deployments whose workers are pods of the module's namespace, and whose engines have
    the rights of the shipped Role and no others. Nothing is left of them in the namespace when
    their functions and runtimes are deleted.

    The arguments are those of :class:`tests.functional.deployment.Deployment` after the URL;
    ``kubernetes`` is more of that group's configuration.
    """
    started: list[Deployment] = []

    def start(kubernetes: Mapping[str, object] | None = None,
              settings: Mapping[str, Mapping[str, object]] | None = None,
              **options: Any) -> Deployment:
        folder = tmp_path_factory.mktemp("k")
        groups = dict(settings or {})
        groups["engine"] = {"orchestrator": "kubernetes", "lease_seconds": 3,
                            **groups.get("engine", {})}
        groups["kubernetes"] = {"kubeconfig": access.kubeconfig("engine"),
                                "namespace": namespace, **(kubernetes or {})}
        started.append(Deployment(folder, f"sqlite:///{folder}/db.sqlite", settings=groups,
                                  image=runtime_image, **options))
        return started[-1]

    yield start
    server.heal()  # some engines come through it
    try:
        for deployment in started:
            sites.clear(deployment)
        assert processes.wait_for(
            lambda: not cluster.get("-n", namespace, "pods,deployments,replicasets")["items"],
            sites.PATIENCE), [deployment.log() for deployment in started]
    finally:
        for deployment in started:
            deployment.stop()
