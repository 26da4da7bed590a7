# SPDX-License-Identifier: Apache-2.0
"""Pods that go, engines that die: workers are replaced, taken over, and never left behind."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes.site import PATIENCE, POOL, WORKER, Site

#: Between the steps of making a worker; see qinling_exec.faultpoint.
STEPS = ("pod-chosen", "pod-taken", "pod-specialized", "pod-recorded")


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], reachable: None) -> Deployment:
    return deploy(engines=1)


def _names(site: Site, selector: str = WORKER) -> list[str]:
    return [str(pod["metadata"]["name"]) for pod in site.pods(selector)]


def _limits(site: Site) -> list[str]:
    """Return what CPU each worker may use: 50 for itself, and 100 for each of three runs."""
    return [pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] for pod in site.pods()]


def _run(site: Site, function: str) -> None:
    """Run a function once; it has a worker then."""
    ended = site.ended(site.start(function))
    assert (ended["status"], ended["attempts"]) == ("success", 1)


def test_a_deleted_pod_is_replaced(site: Site) -> None:
    function = site.function()
    _run(site, function)
    before, = _names(site)
    site.cluster.kubectl("-n", site.namespace, "delete", "pod", before)
    path = f"/v1/functions/{function}/workers"
    assert processes.wait_for(lambda: not site.api.ok("GET", path)["workers"], 30), "the row goes"
    _run(site, function)
    after, = _names(site)
    assert after != before


def test_a_pod_that_nobody_knows_is_ended(site: Site) -> None:
    assert processes.wait_for(lambda: _names(site, POOL), PATIENCE)
    generic = _names(site, POOL)[0]
    site.cluster.kubectl("-n", site.namespace, "label", "pod", generic, f"{POOL}-",
                         f"{WORKER}=qx-nobody")
    assert processes.wait_for(lambda: generic not in _names(site), 60)


def test_another_image_of_a_function_is_another_worker(site: Site) -> None:
    function = site.function()
    _run(site, function)
    before, = _names(site)
    site.api.ok("PUT", f"/v1/functions/{function}", data={"memory_size": str(2**26)})
    _run(site, function)
    assert processes.wait_for(lambda: before not in _names(site), 30)


def test_an_engine_that_comes_takes_over_workers(site: Site) -> None:
    function = site.function()
    _run(site, function)
    before = _names(site)
    site.deployment.engines[-1].kill()
    site.deployment.start_engine()
    _run(site, function)
    ended = site.ended(site.start(function, sync=True))
    assert ended["status"] == "success"
    assert _names(site) == before, "the pod was taken over with its function"


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_two_steps_of_making_a_worker(site: Site, step: str) -> None:
    site.deployment.engines[-1].stop()
    engine = site.deployment.start_engine(f"{step}=kill")
    # The engine that is started anew may have begun the run when it is killed as well.
    made = site.start(site.function(attempts=3))
    # Its master starts it anew, to be killed again.
    assert processes.wait_for(lambda: engine.log.count("The engine is ready.") > 1, 60)
    engine.kill()
    began = time.monotonic()
    site.deployment.start_engine()
    assert site.ended(made)["status"] == "success"
    print(f"ended {time.monotonic() - began:.1f} s after another engine was started")
    # It is left as any worker is, and not with what a start may use.
    assert processes.wait_for(lambda: _limits(site) == ["350m"], 60), _limits(site)
