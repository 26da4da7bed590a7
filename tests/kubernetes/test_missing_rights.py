# SPDX-License-Identifier: Apache-2.0
"""Each right of the shipped Role is needed: without it a driver can't do one thing, and says so.

There is a service account for each right, which has all others.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from qinling_exec import conf as configuration
from qinling_exec.orchestrator.base import ImageRun, OrchestratorError, PoolRequest, Size
from qinling_exec.orchestrator.kubernetes import watch as watches
from qinling_exec.orchestrator.kubernetes.driver import KubernetesOrchestrator
from tests.functional import processes
from tests.kubernetes import rights
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.rights import Access, Right

_RUNTIME = "11111111-2222-3333-4444-555555555555"
_SIZE, _LARGE = Size(100, 2**25, 3), Size(100, 2**28, 3)
Driver = KubernetesOrchestrator
Make = Callable[..., Driver]


class Site:
    """What operations work on: a pool, and a worker that a driver with all rights has taken."""

    def __init__(self, full: Driver, image: str, python: str) -> None:
        self.full, self.image, self.python = full, image, python
        self.pool = PoolRequest(_RUNTIME, image)

    def new_pool(self, trusted: bool = True) -> PoolRequest:
        """Return a pool that is not there yet."""
        return PoolRequest(str(uuid.uuid4()), self.image, trusted)


@pytest.fixture(scope="module")
def make(access: Access, namespace: str, runtime_class: Callable[[str], str]) -> Make:
    """Make drivers for service accounts.

    They may have a class for what nobody trusts whose pods do not start, for a reason that events
    alone tell.
    """
    access.give({_account(right): rights.shipped() - {right} for right in rights.shipped()})
    stuck = runtime_class("no-such-handler")

    def new(account: str, seconds: int = 60, untrusted: bool = False) -> Driver:
        conf = configuration.load()
        for name, value in {"kubeconfig": str(access.kubeconfig(account)), "pool_replicas": 1,
                            "namespace": namespace,
                            "untrusted_runtime_class": stuck if untrusted else None}.items():
            conf.set_override(name, value, "kubernetes")
        conf.set_override("start_timeout", seconds, "engine")
        return KubernetesOrchestrator(conf)

    return new


@pytest.fixture(scope="module")
def site(make: Make, runtime_image: str, python_image: str, cluster: Cluster,
         namespace: str) -> Iterator[Site]:
    full = make("engine")
    here = Site(full, runtime_image, python_image)
    full.ensure_pool(here.pool)
    full.take(_RUNTIME, "taken", _SIZE)
    yield here
    full.release("taken")
    full.delete_pool(_RUNTIME)
    full.close()
    assert processes.wait_for(
        lambda: not cluster.get("-n", namespace, "pods,deployments")["items"], 60)


def _account(right: Right) -> str:
    return "without-" + "-".join(right[1:]).replace("/", "-")


def _take(driver: Driver, site: Site) -> None:
    driver.ensure_pool(site.pool)
    driver.take(_RUNTIME, "never", _SIZE)


def _take_large(driver: Driver, site: Site) -> None:
    driver.ensure_pool(site.pool)
    driver.take(_RUNTIME, "never", _LARGE)


def _stuck(driver: Driver, site: Site) -> None:
    pool = site.new_pool(trusted=False)
    try:
        driver.ensure_pool(pool)
    finally:
        site.full.delete_pool(pool.runtime_id)


#: What can't be done without a right.
OPERATIONS: dict[Right, Callable[[Driver, Site], object]] = {
    ("", "pods", "get"): lambda driver, site: (
        driver.watch.await_current(), driver.images.log_begin(("nobody-s", 1))),
    ("", "pods", "list"): lambda driver, site: driver.ensure_pool(site.pool),
    ("", "pods", "watch"): lambda driver, site: driver.ensure_pool(site.pool),
    ("", "pods", "create"): _take_large,
    ("", "pods", "patch"): _take,
    ("", "pods", "delete"): lambda driver, site: (
        driver.watch.await_current(), driver.release("taken")),
    ("", "pods/resize", "patch"): lambda driver, site: (
        driver.watch.await_current(), driver.fit("taken", _SIZE)),
    ("", "events", "list"): _stuck,
    ("apps", "deployments", "get"): _stuck,
    ("apps", "deployments", "create"): lambda driver, site: driver.ensure_pool(site.new_pool()),
    ("apps", "deployments", "patch"): lambda driver, site: driver.ensure_pool(site.pool),
    ("apps", "deployments", "delete"): lambda driver, site: driver.delete_pool(_RUNTIME),
}


@pytest.mark.parametrize("right", sorted(OPERATIONS), ids=lambda right: "-".join(right[1:]))
def test_what_can_t_be_done_without(make: Make, site: Site, right: Right,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "_LIST_SECONDS", 2.0)
    group, resource, verb = right
    # How soon it asks for events.
    seconds = 3 if resource == "events" else 60
    with (contextlib.closing(make(_account(right), seconds, untrusted=True)) as driver,
          pytest.raises(OrchestratorError) as error):
        OPERATIONS[right](driver, site)
    assert f'cannot {verb} resource "{resource}" in API group "{group}"' in str(error.value)


def test_without_the_right_to_read_logs_there_are_none(
        make: Make, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The run itself goes on: its outcome is another thing."""
    attempt, log = (str(uuid.uuid4()), 1), bytearray()
    with contextlib.closing(make(_account(("", "pods/log", "get")))) as driver:
        driver.images.begin(ImageRun(attempt, site.python, ("-c", "print(1)"), 500, 2**25, 20))
        end = driver.images.follow(attempt, lambda data: log.extend(data) or True, 0,
                                   threading.Event())
        driver.images.end(attempt)
    assert end is not None
    assert (end.status, bytes(log)) == ("success", b""), end
    assert 'cannot get resource "pods/log"' in caplog.text


def test_all_rights_are_tried() -> None:
    assert {*OPERATIONS, ("", "pods/log", "get")} == rights.shipped()
