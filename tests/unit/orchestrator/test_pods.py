# SPDX-License-Identifier: Apache-2.0
"""What an engine makes of the pods that it sees; tests/kubernetes asks a real cluster."""

import threading
from types import SimpleNamespace

import pytest

from qinling_exec.orchestrator.base import (
    ImageRun,
    OrchestratorError,
    OrchestratorFull,
    OrchestratorSpent,
    OrchestratorUnavailable,
    PoolRequest,
    Size,
)
from qinling_exec.orchestrator.fitting import Fitting
from qinling_exec.orchestrator.kubernetes import names, room, seen
from qinling_exec.orchestrator.kubernetes.client import ApiError
from qinling_exec.orchestrator.kubernetes.driver import KubernetesOrchestrator
from qinling_exec.orchestrator.kubernetes.images import PodImages
from qinling_exec.orchestrator.kubernetes.pods import Shape
from qinling_exec.orchestrator.kubernetes.pools import Pool, Pools
from qinling_exec.orchestrator.kubernetes.taking import Taking


def pod(name, labels, *, leaving=False, waiting=None, unplaced=None, **status):
    """Return a pod as an engine keeps it."""
    gone = {"deletionTimestamp": "2026-01-01T00:00:06Z"} if leaving else {}
    if waiting:
        status["containerStatuses"] = [{"state": {"waiting": {"reason": waiting}}}]
    if unplaced:
        status["conditions"] = [{"type": "PodScheduled", "status": "False",
                                 "reason": "Unschedulable", "message": unplaced}]
    return seen.read({
        "metadata": {"name": name, "resourceVersion": "1", "labels": labels, **gone},
        "spec": {}, "status": {"phase": "Pending", **status}})


@pytest.mark.parametrize(("message", "misplaced"), [
    ("0/2 nodes are available: 2 node(s) had untolerated taint {gpu: yes}.", True),
    ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", True),
    ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {a: b}.",
     False),
    ("0/1 nodes are available: 1 Too many pods.", False),
    ("0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available:"
     " 1 No preemption victims found for incoming pod.", False),
    ("0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption:"
     " 0/1 nodes are available: 1 Preemption is not helpful for scheduling.", True),
    ("0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available:"
     " 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for"
     " scheduling.", False),
])
def test_what_no_node_takes_is_told_from_what_has_no_room(message, misplaced):
    found = pod("p", {}, unplaced=message)
    assert (found.unplaced, found.misplaced) == (True, misplaced)


@pytest.mark.parametrize(("requested", "used", "limited", "never"), [
    ("pods=1", "pods=5", "pods=5", False),
    ("pods=1", "pods=0", "pods=0", True),
    ("limits.memory=2Gi,pods=1", "limits.memory=0,pods=1", "limits.memory=1Gi,pods=9", True),
    ("limits.cpu=900m,pods=1", "limits.cpu=500m,pods=1", "limits.cpu=1,pods=9", False),
    ("x", "y", "z", False),
])
def test_a_quota_that_is_too_small_is_told_from_one_that_is_used_up(requested, used, limited,
                                                                    never):
    assert room.never_comes(
        f'The cluster refused: pods "w" is forbidden: exceeded quota: few, requested: {requested},'
        f" used: {used}, limited: {limited}") is never
    assert not room.never_comes("exceeded quota")


def driver(*there):
    """Return what of a driver looks at pods; nothing is asked of a cluster."""
    made = object.__new__(KubernetesOrchestrator)
    made.watch = SimpleNamespace(
        current=True, all=lambda: list(there),
        get=lambda name: next((one for one in there if one.name == name), None))
    made.images = SimpleNamespace(on_room=lambda: None)
    made._lock, made._pods, made._losses = threading.Lock(), {}, {}
    made._on_lost = lambda name: None
    return made


@pytest.mark.parametrize("last", ["stays", "goes"])
def test_of_two_pods_of_one_name_the_one_that_stays_is_the_worker(last):
    """Its own address seemed wrong, and the worker was ended with all that ran there."""
    goes = pod("goes", {names.WORKER: "w"}, leaving=True, podIP="10.0.0.1")
    stays = pod("stays", {names.WORKER: "w"}, podIP="10.0.0.2")
    made = driver(*sorted([goes, stays], key=lambda one: one.name == last))
    assert made.workers() == {"w": "10.0.0.2:9090"}
    assert made.alive("w")
    made._changed("goes", goes)
    assert made._losses == {}


def test_the_loss_of_a_former_pod_is_not_that_of_the_worker():
    """A worker that ran out of memory was said to have been deleted."""
    second = pod("second", {names.WORKER: "w"}, phase="Failed", reason="Evicted")
    made = driver(second)
    made._pods["w"] = "second"
    made._changed("first", pod("first", {names.WORKER: "w"}, leaving=True))
    assert "w" not in made._losses
    made._changed("second", second)
    assert made.loss("w").startswith("its pod was evicted")


@pytest.mark.parametrize(("message", "told"), [
    ("1 node(s) had untolerated taint {gpu: yes}.", None),
    ("1 Insufficient cpu.", False),
    ("1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for"
     " scheduling.", None),
])
def test_who_waits_in_vain_is_told_so(monkeypatch, message, told):
    found, asked = pod("w", {names.WORKER: "w"}, unplaced=message), []
    watch = SimpleNamespace(all=lambda: [found], get=lambda name: found,
                            wait=lambda done, seconds: done())
    taking = Taking(None, watch, SimpleNamespace(memory=lambda: 0),
                    SimpleNamespace(memory=lambda size: 1), 1)
    monkeypatch.setattr(taking, "_make", lambda *given: found)

    def no_room(moves):
        asked.append(moves)
        return len(asked) < 3

    with pytest.raises(OrchestratorFull, match="A pod did not get ready") as caught:
        taking.take(None, "w", Size(100, 2**25, 3), no_room)
    assert caught.value.moves is told
    assert asked == [told] * 3


@pytest.mark.parametrize(("limited", "moves"), [(0, None), (5, False)])
def test_who_finds_a_quota_too_small_is_told_so(limited, moves):
    asked = []
    watch = SimpleNamespace(all=list, await_current=lambda: None, learn=lambda found: found)
    refusal = ApiError(403, f'pods "w" is forbidden: exceeded quota: few, requested: pods=1,'
                            f" used: pods={limited}, limited: pods={limited}")

    def refuse(*given, **more):
        raise refusal

    client = SimpleNamespace(request=refuse, path=lambda *parts: "/".join(parts))
    shape = Shape(50, 2**26, 1000, 50, 2**28, "IfNotPresent", (), None, None, 65532, "")
    taking = Taking(client, watch, SimpleNamespace(memory=lambda: 0), shape, 1)
    with pytest.raises(OrchestratorSpent) as of_worker:
        taking.take(Pool(PoolRequest("r", "image"), {}, "t"), "w", Size(100, 2**25, 3),
                    lambda told: asked.append(told) or False)
    images = PodImages(client, watch, shape, 10)
    with pytest.raises(OrchestratorFull) as of_image:
        images.begin(ImageRun(("e", 1), "image", (), 100, 2**25, 5))
    assert (asked, of_worker.value.moves, of_image.value.moves) == ([moves], moves, moves)


@pytest.mark.parametrize(("other", "settled"), [({}, False), ({"waiting": "ErrImagePull"}, True)])
def test_one_hopeless_pod_is_the_end_of_a_pool_only_when_no_other_comes(other, settled):
    labels = {names.POOL: "r", names.TEMPLATE: "t"}
    there = [pod("a", labels, waiting="ImagePullBackOff"), pod("b", labels, **other)]
    pools = Pools(None, SimpleNamespace(all=lambda: there), None, None, 2, {}, 1)
    request = PoolRequest("r", "image")
    assert pools._settled(Pool(request, {}, "t")) is settled


def test_a_size_that_could_not_be_asked_for_is_asked_for_later(database):
    """A worker whose resize met a cluster that was away kept what a start may use for good."""
    errors, asked = [OrchestratorUnavailable("429"), None, OrchestratorError("no")], []

    def fit(name, size):
        asked.append(name)
        error = errors.pop(0)
        if error is not None:
            raise error

    fitting = Fitting(database, SimpleNamespace(fit=fit))
    fitting.fit("w", Size(100, 2**25, 3))
    assert fitting.owes("w")
    fitting.fit("w", Size(100, 2**25, 3))
    assert not fitting.owes("w")
    fitting.fit("w", Size(100, 2**25, 3))
    assert not fitting.owes("w"), "the cluster has refused it"
    assert asked == ["w"] * 3
