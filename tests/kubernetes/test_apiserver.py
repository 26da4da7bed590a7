# SPDX-License-Identifier: Apache-2.0
"""The cluster's API is away, slow, or wrong: warm functions go on, the rest heals by itself.

Engines reach the cluster's real API through a proxy that breaks what it is told to.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes import site as sites
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.site import PATIENCE, Site

_GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
_LONG = pytest.mark.long
#: How long nobody listens, in seconds.
_OUTAGES = [pytest.param(6.0), pytest.param(120.0, marks=_LONG)]
#: Seconds without a word after which a watch is begun anew.
_SILENCE = 6


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], reachable: None, server: ApiServer,
               tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(kubernetes={
        "kubeconfig": server.kubeconfig(tmp_path_factory.mktemp("proxy")),
        "pool_replicas": 1, "watch_silence": _SILENCE})


def _pool(site: Site) -> bool:
    """Wait for a warm pod."""
    return bool(processes.wait_for(lambda: any(
        pod["status"].get("containerStatuses", [{}])[0].get("ready")
        for pod in site.pods(sites.POOL)), PATIENCE))


def test_warm_executions_ask_the_cluster_for_nothing(site: Site, server: ApiServer) -> None:
    function = site.function()
    site.ended(site.start(function))
    name = site.pod_of(function)["metadata"]["name"]
    assert processes.wait_for(lambda: _calls(server, name) == {"patch pods", "patch pods/resize"},
                              PATIENCE), server.calls
    assert _pool(site)
    began = time.monotonic()
    for number in range(20):  # one at a time: more would want another worker
        assert site.ended(site.start(function, sync=number % 2 == 0))["status"] == "success"
    assert server.since(began) == []


def test_a_cluster_that_resizes_no_pods(site: Site, server: ApiServer) -> None:
    """What a start may use is kept; each run is held to its memory by the worker itself."""
    server.answer(403, lambda call: call.resource == "pods/resize")
    function, engine = site.function(), site.deployment.engines[-1]
    before = engine.log.count("keeps the size that it had")
    assert site.ended(site.start(function))["status"] == "success"
    assert processes.wait_for(
        lambda: engine.log.count("keeps the size that it had") == before + 1, 30)
    limits = site.pod_of(function)["spec"]["containers"][0]["resources"]["limits"]
    assert limits["cpu"] == "1"
    assert site.ended(site.start(function, then="memory"))["status"] == "failed"
    assert site.ended(site.start(function, sync=True))["status"] == "success"


def test_a_worker_costs_two_requests(site: Site, server: ApiServer) -> None:
    """One takes the pod and one resizes it; three chances, as pods may change meanwhile."""
    counts = []
    for _ in range(3):
        assert _pool(site)
        function, began = site.function(), time.monotonic()
        site.ended(site.start(function))
        name = site.pod_of(function)["metadata"]["name"]
        assert processes.wait_for(lambda name=name: _calls(server, name) == {
            "patch pods", "patch pods/resize"}, PATIENCE), server.calls
        counts.append(len(server.since(began)))
    assert min(counts) == 2, counts


def test_a_pod_on_its_way_to_the_pool_is_taken(site: Site, server: ApiServer) -> None:
    """Another one was made beside it, which took as long as both together."""
    assert _pool(site)
    first, second = site.function(), site.function()
    began = time.monotonic()
    site.ended(site.start(first))
    assert processes.wait_for(lambda: site.pods(sites.POOL), PATIENCE)
    assert site.ended(site.start(second))["status"] == "success"
    assert "create" not in {call.verb for call in server.since(began)}
    assert "ownerReferences" not in site.pod_of(second)["metadata"]


def _calls(server: ApiServer, name: str) -> set[str]:
    return {f"{call.verb} {call.resource}" for call in server.calls if call.name == name}


@pytest.mark.parametrize("seconds", _OUTAGES)
def test_nobody_listens(site: Site, server: ApiServer, seconds: float) -> None:
    """Warm functions go on; a cold one waits; a pod that goes meanwhile is seen afterwards."""
    warm, lost, cold = (site.function() for _ in range(3))
    for function in (warm, lost):
        site.ended(site.start(function))
    running = site.start(warm, seconds / 2)
    site.started(running)
    server.refuse()
    began = time.monotonic()
    before = site.lose(lost)
    waiting = [site.start(function) for function in (cold, lost)]
    while time.monotonic() < began + seconds:
        assert site.ended(site.start(warm, sync=True))["status"] == "success"
        time.sleep(seconds / 10)
    assert site.ended(running)["status"] == "success"
    assert {site.history.show(one)["status"] for one in waiting} == {"running"}
    server.heal()
    healed = time.monotonic()
    assert {site.ended(one)["status"] for one in waiting} == {"success"}
    print(f"all ended {time.monotonic() - healed:.1f} s after the end of {seconds:.0f} s")
    assert site.pod_of(lost)["metadata"]["name"] != before


@pytest.mark.parametrize(("status", "headers"), [
    (429, {"Retry-After": "1"}), pytest.param(500, {}, marks=_LONG),
    pytest.param(503, {"Retry-After": "1"}, marks=_LONG)])
def test_refusals_that_pass(site: Site, server: ApiServer, status: int,
                            headers: dict[str, str]) -> None:
    """For some seconds everything, then every other request: a cold function waits, no more."""
    assert _pool(site)
    function = site.function()
    began = time.monotonic()
    server.answer(status, **headers)
    made = site.start(function)
    time.sleep(4)
    assert (site.history.show(made) or {})["status"] == "running"
    asked = len(server.since(began))
    assert 1 <= asked < 40, f"{asked} requests in 4 s"
    server.heal()
    server.answer(status, every=2, **headers)
    assert site.ended(made)["status"] == "success"
    print(f"{asked} requests in 4 s; ended after {time.monotonic() - began - 4:.1f} more")


@_LONG
def test_slow(site: Site, server: ApiServer) -> None:
    """Three seconds for each answer: warm functions feel nothing, a cold one waits for its pod."""
    warm, cold = site.function(), site.function()
    site.ended(site.start(warm))
    assert _pool(site)
    server.delay(3)
    began = time.monotonic()
    made = site.start(cold)
    assert site.ended(site.start(warm, sync=True))["status"] == "success"
    assert time.monotonic() - began < 3, "a warm function waits for nobody"
    assert site.ended(made)["status"] == "success"
    print(f"a cold function after {time.monotonic() - began:.1f} s")


def test_a_watch_that_falls_silent_is_begun_anew(site: Site, server: ApiServer) -> None:
    function = site.function()
    site.ended(site.start(function))
    server.hold_watches()
    before = site.lose(function)
    began = time.monotonic()
    assert site.ended(site.start(function))["status"] == "success"
    print(f"ended {time.monotonic() - began:.1f} s after the watch fell silent")
    assert site.pod_of(function)["metadata"]["name"] != before


@pytest.mark.parametrize("how", ["event", pytest.param("answer", marks=_LONG)])
def test_a_watch_that_lost_its_thread(site: Site, server: ApiServer, how: str) -> None:
    """410, in the watch or as its answer: what happened meanwhile is found by a list."""
    function = site.function()
    site.ended(site.start(function))
    server.hold_watches()
    before = site.lose(function)
    began = time.monotonic()
    if how == "event":
        assert server.tell_watches(_GONE)
    else:
        server.answer(410, lambda call: call.verb == "watch", times=1)
        server.end_watches()
    assert site.ended(site.start(function))["status"] == "success"
    assert "list" in {call.verb for call in server.since(began)}
    assert site.pod_of(function)["metadata"]["name"] != before


def test_a_list_that_is_out_of_date(site: Site, server: ApiServer) -> None:
    """What it does not know is not lost for that."""
    assert _pool(site)
    server.repeat_list(site.namespace)
    function = site.function()
    site.ended(site.start(function))
    running = site.start(function, 4)
    site.started(running)
    before = site.pod_of(function)["metadata"]["name"]
    began = time.monotonic()
    assert server.tell_watches(_GONE)
    assert processes.wait_for(lambda: sum(
        call.verb == "list" for call in server.since(began)) > 1, PATIENCE), "it asks again"
    assert site.ended(running)["status"] == "success"
    assert site.ended(site.start(function))["status"] == "success"
    assert site.pod_of(function)["metadata"]["name"] == before


@_LONG
def test_pods_that_end_while_no_engine_is_there(site: Site, deployment: Deployment) -> None:
    """An engine that comes finds out: rows without pods go, and so do pods without rows."""
    kept, deleted, killed, unwanted = functions = [site.function() for _ in range(4)]
    for made in [site.start(function) for function in functions]:
        site.ended(made)
    pods = {function: site.pod_of(function) for function in functions}
    # An API process has a run on the pod that goes.
    caller = site.begin(deleted, seconds=100, sync=True)
    site.ledger.wait_for_starts(5, PATIENCE)
    deployment.engines[-1].kill()
    site.cluster.kubectl("-n", site.namespace, "delete", "pod",
                         pods[deleted]["metadata"]["name"], "--force", "--grace-period=0")
    sites.kill_server(pods[killed])
    site.api.ok("DELETE", f"/v1/functions/{unwanted}", 204)
    lost = site.ended(caller.result())
    assert lost["status"] == "error"
    assert "was lost before it answered" in lost["output"]
    deployment.start_engine()
    made = [site.start(function) for function in (kept, deleted, killed)]
    assert {site.ended(one)["status"] for one in made} == {"success"}
    names = {function: pod["metadata"]["name"] for function, pod in pods.items()}
    assert site.pod_of(kept)["metadata"]["name"] == names[kept]
    for function in (deleted, killed):
        assert site.pod_of(function)["metadata"]["name"] != names[function]
    assert processes.wait_for(lambda: not {names[killed], names[unwanted]} & {
        pod["metadata"]["name"] for pod in site.pods()}, PATIENCE)
