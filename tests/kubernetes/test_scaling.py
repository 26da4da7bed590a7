# SPDX-License-Identifier: Apache-2.0
"""Workers on pods come and go as they are asked to; two engines share a pool."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes import site as sites
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.site import PATIENCE, WORKER, Site

_REPLICAS = 1


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], reachable: None, server: ApiServer,
               tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(engines=2, settings={"engine": {"function_service_expiration": 3600}},
                  kubernetes={"kubeconfig": server.kubeconfig(tmp_path_factory.mktemp("proxy")),
                              "pool_replicas": _REPLICAS})


def _workers(site: Site, function: str) -> set[str]:
    found = site.api.ok("GET", f"/v1/functions/{function}/workers")["workers"]
    return {str(item["worker_name"]) for item in found}


def _on_pods(site: Site, function: str, count: int) -> bool:
    """Wait until a function has so many workers, each of them one pod."""
    def same() -> bool:
        pods = [pod["metadata"]["labels"][WORKER] for pod in site.pods()]
        return len(pods) == count and set(pods) == _workers(site, function)

    return bool(processes.wait_for(same, PATIENCE))


@pytest.mark.long
def test_two_engines_never_take_the_same_pod(site: Site, server: ApiServer) -> None:
    """They choose while the other's patch is on its way, until the cluster had to refuse one."""
    def refused() -> int:
        return sum(call.verb == "patch" and call.resource == "pods" and status in (409, 422)
                   for call, status in server.answered)

    server.delay(0.4)
    for _ in range(8):
        functions = [site.function() for _ in range(4)]
        made = [site.start(function) for function in functions]
        assert {site.ended(one)["status"] for one in made} == {"success"}
        assert {site.ended(one)["attempts"] for one in made} == {1}
        names = [pod["metadata"]["labels"][WORKER] for pod in site.pods()]
        assert len(names) == len(set(names))
        assert {name for function in functions for name in _workers(site, function)} <= set(names)
        for function in functions:
            site.api.ok("POST", f"/v1/functions/{function}/detach", 202)
        assert processes.wait_for(lambda: not site.pods(), PATIENCE)
        if refused():
            break
    assert refused(), "they never met"


def test_scale_up_scale_down_and_detach(site: Site) -> None:
    function = site.function()
    site.ended(site.start(function))
    path = f"/v1/functions/{function}"
    site.api.ok("POST", f"{path}/scale_up", 202, json={"count": 2})
    assert _on_pods(site, function, 3)
    made = [site.start(function, 2) for _ in range(9)]
    assert {site.ended(one)["status"] for one in made} == {"success"}
    site.api.ok("POST", f"{path}/scale_down", 202, json={"count": 2})
    assert _on_pods(site, function, 1)
    running = site.start(function, 3)
    site.started(running)
    site.api.ok("POST", f"{path}/detach", 202)
    assert site.ended(running)["status"] == "success", "what runs is let end"
    assert _on_pods(site, function, 0)


def test_pods_that_have_nothing_to_do_go(site: Site, deployment: Deployment) -> None:
    function = site.function()
    site.ended(site.start(function))
    assert _on_pods(site, function, 1)
    text = deployment.config.read_text()
    deployment.config.write_text(re.sub(r"(function_service_expiration) = \d+", r"\1 = 1", text))
    for engine in deployment.engines:
        engine.reload()
    try:
        assert _on_pods(site, function, 0)
    finally:
        deployment.config.write_text(text)
        for engine in deployment.engines:
            engine.reload()
    assert site.ended(site.start(function))["status"] == "success"


@pytest.mark.long
def test_a_pod_has_the_cpu_and_memory_that_its_function_asks_for(site: Site) -> None:
    """Once the resize is in force; how fast functions are by that: bench_kubernetes."""
    for cpu, memory in ((100, 32), (200, 48)):
        function = site.function(cpu=str(cpu), memory_size=str(memory << 20))
        site.ended(site.start(function))
        pod = site.pod_of(function)
        for kind, name, wanted in (
                ("cpu", "cpu.cfs_quota_us", (50 + 3 * cpu) * 100),
                ("memory", "memory.limit_in_bytes", (96 + 3 * memory) << 20)):
            file = sites.group_of(pod, kind) / name
            assert processes.wait_for(lambda file=file, wanted=wanted: int(
                file.read_text()) == wanted, 30), (file.read_text(), wanted)
