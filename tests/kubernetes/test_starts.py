# SPDX-License-Identifier: Apache-2.0
"""Workers that can't be had: the record says why, in the cluster's words, and nothing is left.

There is no pool: each worker is a pod that is made for it. The runtime is one that nobody trusts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes.site import PATIENCE, TOO_LARGE, Site, engine_with

_START_SECONDS = 30
_MISSING = "node.local/there-is-no-such-image:1"


@pytest.fixture(scope="module")
def untrusted(runtime_class: Callable[[str], str]) -> str:
    """A RuntimeClass of its own name; what runs its pods is what there is."""
    return runtime_class("runc")


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], reachable: None, untrusted: str) -> Deployment:
    return deploy(settings={"engine": {"start_timeout": _START_SECONDS}},
                  kubernetes={"pool_replicas": 0, "untrusted_runtime_class": untrusted,
                              "image_pull_policy": "Never"})


def _runtime(site: Site, image: str, **fields: object) -> str:
    made = site.api.ok("POST", "/v1/runtimes", 201, json={"name": "r", "image": image, **fields})
    path = f"/v1/runtimes/{made['id']}"
    assert processes.wait_for(
        lambda: site.api.ok("GET", path)["status"] == "available", PATIENCE)
    return str(made["id"])


def _refused(site: Site, function: str) -> dict[str, Any]:
    """Run a function that can't be run; no pod is left of the attempts."""
    row = site.ended(site.start(function))
    assert row["status"] == "error", row
    assert processes.wait_for(lambda: not site.pods(), PATIENCE)
    return row


def test_a_runtime_that_nobody_trusts_has_its_class(site: Site, untrusted: str,
                                                    runtime_image: str) -> None:
    runtime = _runtime(site, runtime_image, trusted=False)
    function = site.function(runtime_id=runtime)
    assert site.ended(site.start(function))["status"] == "success"
    assert site.pod_of(function)["spec"]["runtimeClassName"] == untrusted
    trusted = site.function()
    assert site.ended(site.start(trusted))["status"] == "success"
    assert "runtimeClassName" not in site.pod_of(trusted)["spec"]


@pytest.fixture
def full(site: Site) -> Iterator[Callable[[], None]]:
    """No pod may be made until this is called."""
    site.cluster.apply(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
         "spec": {"hard": {"pods": "0"}}}, namespace=site.namespace)

    def end() -> None:
        site.cluster.kubectl("-n", site.namespace, "delete", "resourcequota", "full",
                             "--ignore-not-found")

    yield end
    end()


def test_a_quota_that_is_used_up_for_a_while(site: Site, full: Callable[[], None]) -> None:
    made = site.start(site.function())
    time.sleep(4)
    full()
    assert site.ended(made)["status"] == "success", "there was room in time"


@pytest.mark.long
def test_a_quota_that_is_used_up(site: Site, full: Callable[[], None]) -> None:
    function = site.function()
    began = time.monotonic()
    row = _refused(site, function)
    assert time.monotonic() - began > _START_SECONDS, "there might have been room in time"
    assert "No worker could be started" in row["output"]
    assert "exceeded quota: full" in row["output"]
    full()
    assert site.ended(site.start(function))["status"] == "success", "and then it can be had"


def test_an_image_that_nobody_has(site: Site, deployment: Deployment) -> None:
    before = deployment.engines[-1].log.count("could not be started")
    function = site.function(runtime_id=_runtime(site, _MISSING))
    row = _refused(site, function)
    assert _MISSING in row["output"], row["output"]
    assert deployment.engines[-1].log.count("could not be started") == before + 1, "once is enough"


@pytest.mark.long
def test_a_pod_that_no_node_can_have(site: Site, deployment: Deployment) -> None:
    """Three tries within the start time, then the record says so; it heals with the setting."""
    function = site.function(attempts=2)
    quick = (f"start_timeout = {_START_SECONDS}", "start_timeout = 3")
    with engine_with(deployment, quick, TOO_LARGE):
        row = _refused(site, function)
        assert row["attempts"] == 0, "a worker that can't be had is no attempt"
        assert "Unschedulable" in row["output"]
        assert "nsufficient memory" in row["output"]
    assert site.ended(site.start(function))["status"] == "success"
