# SPDX-License-Identifier: Apache-2.0
"""The node dies, or the cluster forgets it.

QINLING_EXEC_TEST_NODE=1 asks for this: it breaks a cluster that others may use, and mends it. That
cluster must have been started by a folder with ``up``.
"""

from __future__ import annotations

import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes import site as sites
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.site import PATIENCE, RUN, Site

pytestmark = [pytest.mark.long, pytest.mark.skipif(
    not os.environ.get("QINLING_EXEC_TEST_NODE"),
    reason="NOT RUN, it breaks the cluster for others: QINLING_EXEC_TEST_NODE=1")]
#: Of a run, in seconds. One that says nothing is waited for that long and 20 more; by then the
#: cluster has found a silent node (40), and its pods have tolerated that (20).
_TIMEOUT = 60


class Node:
    """The one node of the cluster, and its kubelet."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.name = cluster.get("nodes")["items"][0]["metadata"]["name"]
        self._run = pathlib.Path(cluster.environment["KUBECONFIG"]).parent / "run"

    def kill_kubelet(self) -> None:
        os.kill(int((self._run / "kubelet.pid").read_text()), signal.SIGKILL)

    def mend(self) -> None:
        self._cluster.start()

        def ready() -> bool:
            nodes = self._cluster.get("nodes")["items"]
            return any(item["type"] == "Ready" and item["status"] == "True"
                       for node in nodes for item in node["status"]["conditions"])

        assert processes.wait_for(ready, PATIENCE)


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    if cluster.folder is None:
        pytest.skip("The cluster is not started by a folder with `up`")
    found = Node(cluster)
    yield found
    found.mend()


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(kubernetes={"pool_replicas": 2})


def _freeze(site: Site, function: str) -> None:
    """Let a pod fall silent with its connections open, as when its node has lost its power."""
    for pid in sites.processes_of(site.pod_of(function)):
        os.kill(pid, signal.SIGSTOP)


def test_a_node_that_is_dead(site: Site, node: Node, python_image: str) -> None:
    """Its kubelet is gone, and one of its pods says nothing more; another one still works."""
    silent, again, living = (site.function(timeout=_TIMEOUT),
                             site.function(attempts=2, timeout=_TIMEOUT), site.function())
    for made in [site.start(function) for function in (silent, again, living)]:
        site.ended(made)
    runs = [site.start(function, 200, later=0) for function in (silent, again)]
    of_image = site.start(site.program(python_image, cpu=300), 200)
    site.ledger.wait_for_starts(6, PATIENCE)
    assert processes.wait_for(  # else nobody knows that its program has started
        lambda: site.pods(RUN)[0]["status"]["phase"] == "Running", PATIENCE)
    began = time.monotonic()
    node.kill_kubelet()
    for function in (silent, again):
        _freeze(site, function)
    assert site.ended(site.start(living))["status"] == "success", "who lives works"
    lost = site.ended(runs[0])
    print(f"recorded {time.monotonic() - began:.1f} s after the node's death")
    assert lost["status"] == "error"
    assert "its node was lost (DeletionByTaintManager)" in lost["output"]
    lost = site.ended(of_image)
    print(f"that of an image recorded {time.monotonic() - began:.1f} s after the node's death")
    assert lost["status"] == "error"
    assert "node that the function's pod was on is gone" in lost["output"]
    node.mend()
    row = site.ended(runs[1])
    print(f"begun again and ended {time.monotonic() - began:.1f} s after the node's death")
    assert (row["status"], row["attempts"]) == ("success", 2)
    # Whether a run goes on where nobody answers can't be known; here it was frozen, and is there
    # until the kubelet that came back has ended its pod.
    for entry in site.ledger.entries(row["id"]):
        entry.beside.clear()


def test_a_node_that_the_cluster_forgets(site: Site, node: Node) -> None:
    """Its object is deleted, its pods with it."""
    once, again = site.function(), site.function(attempts=2)
    for made in [site.start(function) for function in (once, again)]:
        site.ended(made)
    callers = [site.begin(function, seconds=200, later=0, sync=True) for function in (once, again)]
    site.ledger.wait_for_starts(4, PATIENCE)
    began = time.monotonic()
    site.cluster.kubectl("delete", "node", node.name)
    lost = site.ended(callers[0].result())
    print(f"recorded {time.monotonic() - began:.1f} s after the node's end")
    assert lost["status"] == "error"
    assert "its node was lost (DeletionByPodGC)" in lost["output"]
    node.kill_kubelet()  # one that comes up makes itself known again
    node.mend()
    row = site.ended(callers[1].result())
    assert (row["status"], row["attempts"]) == ("success", 2)
