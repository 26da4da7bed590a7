# SPDX-License-Identifier: Apache-2.0
"""Pods go while functions run in them: the record says why, and nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes import site as sites
from tests.kubernetes.site import PATIENCE, Site

Fault = Callable[[Site, dict[str, Any]], None]


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], reachable: None) -> Deployment:
    return deploy(kubernetes={"pool_replicas": 2})


def _delete(site: Site, pod: dict[str, Any]) -> None:
    site.cluster.kubectl("-n", site.namespace, "delete", "pod", pod["metadata"]["name"],
                         "--wait=false")


def _force(site: Site, pod: dict[str, Any]) -> None:
    site.cluster.kubectl("-n", site.namespace, "delete", "pod", pod["metadata"]["name"],
                         "--wait=false", "--grace-period=0", "--force")


def _evict(site: Site, pod: dict[str, Any]) -> None:
    sites.evict(site, pod["metadata"]["name"])


def _kill(site: Site, pod: dict[str, Any]) -> None:
    sites.kill_server(pod)


def _exhaust(site: Site, pod: dict[str, Any]) -> None:
    sites.exhaust_memory(pod)


_LONG = pytest.mark.long
_DELETED, _EVICTED = "its pod was deleted", "its pod was evicted (EvictionByEvictionAPI)"
_KILLED, _FULL = ("its server ended with exit code 137",
                  "its pod had no memory left (OOMKilled)")


@pytest.mark.parametrize(("fault", "reason", "sync"), [
    pytest.param(_delete, _DELETED, True, id="deleted-api", marks=_LONG),
    pytest.param(_delete, _DELETED, False, id="deleted-engine", marks=_LONG),
    pytest.param(_force, _DELETED, True, id="by-force-api", marks=_LONG),
    pytest.param(_force, _DELETED, False, id="by-force-engine", marks=_LONG),
    pytest.param(_evict, _EVICTED, True, id="evicted-api"),
    pytest.param(_evict, _EVICTED, False, id="evicted-engine", marks=_LONG),
    pytest.param(_kill, _KILLED, True, id="killed-api", marks=_LONG),
    pytest.param(_kill, _KILLED, False, id="killed-engine", marks=_LONG),
    pytest.param(_exhaust, _FULL, True, id="no-memory-api", marks=_LONG),
    pytest.param(_exhaust, _FULL, False, id="no-memory-engine"),
])
def test_a_pod_goes_with_a_run(site: Site, fault: Fault, reason: str, sync: bool) -> None:
    """Once: an error with the reason; with another attempt: one more run, on another pod."""
    once, again = site.function(), site.function(attempts=2)
    for function in (once, again):  # warm, so that the API itself runs what comes
        site.ended(site.start(function))
    callers = [site.begin(function, seconds=200, later=0, sync=sync) for function in (once, again)]
    site.ledger.wait_for_starts(4, PATIENCE)
    pods = [site.pod_of(function) for function in (once, again)]
    began = time.monotonic()
    for pod in pods:
        fault(site, pod)
    lost, repeated = [site.ended(caller.result()) for caller in callers]
    print(f"both ended {time.monotonic() - began:.1f} s after the fault")
    assert (lost["status"], lost["attempts"]) == ("error", 1)
    assert reason in lost["output"], lost["output"]
    assert (repeated["status"], repeated["attempts"]) == ("success", 2)
    assert len(site.ledger.entries()) == 5
    names = {pod["metadata"]["name"] for pod in pods}
    assert not names & {pod["metadata"]["name"] for pod in site.pods()}


def test_a_function_out_of_memory_fails_alone(site: Site) -> None:
    """Its neighbours in the same pod go on."""
    function = site.function(attempts=2)
    site.ended(site.start(function))
    neighbours = [site.start(function, 3, lines=3) for _ in range(2)]
    site.started(*neighbours)
    greedy = site.ended(site.start(function, then="memory"))
    assert (greedy["status"], greedy["attempts"]) == ("failed", 1)
    assert "resource consumption" in greedy["output"]
    for one in neighbours:
        assert site.ended(one)["status"] == "success"
    assert len(site.pods()) == 1


def test_a_pod_that_was_started_anew_in_the_pool_is_as_good_as_any(site: Site) -> None:
    """As after the restart of a node: what happened before a pod was taken is no loss."""
    for pod in site.pods(sites.POOL):
        sites.kill_server(pod)

    def anew() -> bool:
        states = [pod["status"]["containerStatuses"][0] for pod in site.pods(sites.POOL)]
        return all(state["ready"] and state["restartCount"] for state in states)

    assert processes.wait_for(anew, PATIENCE)
    function = site.function()
    site.ended(site.start(function))
    taken = site.pod_of(function)
    assert taken["status"]["containerStatuses"][0]["restartCount"] == 1
    assert site.ended(site.start(function, 4))["status"] == "success"
    assert site.pod_of(function)["metadata"]["name"] == taken["metadata"]["name"]
