# SPDX-License-Identifier: Apache-2.0
"""What befalls pods of functions made of an image, their engines and the way to the cluster's API,
held against a ledger that the programs themselves write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes import site as sites
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.pods import describe
from tests.kubernetes.site import PATIENCE, RUN, Site
from tests.reliability.history import Creation

_MIB = 2**20
_LONG = pytest.mark.long


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], server: ApiServer, reachable: None,
               tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(
        settings={"engine": {"start_timeout": 10},
                  "limits": {"max_cpu": 1000, "max_memory": 2**50}},
        kubernetes={"kubeconfig": server.kubeconfig(tmp_path_factory.mktemp("proxy")),
                    "pool_replicas": 0, "scratch_size": 8 * _MIB})


@pytest.fixture
def program(site: Site, python_image: str) -> str:
    """A function made of an image that may be attempted once."""
    return site.program(python_image)


def _running(site: Site, program: str, seconds: float = 50, **given: Any) -> Creation:
    """Begin an execution; return when its program runs, and its first line is in the log."""
    made = site.start(program, seconds, **{"lines": 2, **given})
    site.started(made)
    assert processes.wait_for(lambda: site.api.log(str(made.id)), PATIENCE)
    return made


def _lines(site: Site, made: Creation, attempt: int = 1) -> int:
    """Return how many lines of an attempt are in the log."""
    return site.api.log(str(made.id)).count(f"{made.id} {attempt} ".encode())


def _delete(site: Site, made: Creation, *options: str) -> None:
    site.cluster.kubectl("-n", site.namespace, "delete", "pod", f"qx-run-{made.id}-1",
                         "--wait=false", *options)


def _force(site: Site, made: Creation) -> None:
    """The pod is gone from the cluster at once, as those of a node that was lost."""
    _delete(site, made, "--grace-period=0", "--force")


def _evict(site: Site, made: Creation) -> None:
    sites.evict(site, f"qx-run-{made.id}-1")


@pytest.mark.parametrize(("fault", "reason"), [
    pytest.param(_delete, "pod was deleted", id="deleted"),
    pytest.param(_force, "pod was deleted", id="by-force", marks=_LONG),
    pytest.param(_evict, "needed the place", id="evicted", marks=_LONG),
])
def test_a_pod_goes_with_its_run(site: Site, python_image: str,
                                 fault: Callable[[Site, Creation], None], reason: str) -> None:
    """Once: an error with the reason, although the program ended with 0 when it was told to; with
    another attempt: one more run.
    """
    once, again = (_running(site, site.program(python_image, attempts), seconds=60, later=0)
                   for attempts in (1, 2))
    for made in (once, again):
        fault(site, made)
    lost, repeated = site.ended(once), site.ended(again)
    assert (lost["status"], lost["attempts"]) == ("error", 1)
    assert reason in lost["output"]
    assert (repeated["status"], repeated["attempts"]) == ("success", 2)
    assert len(site.ledger.entries()) == 3
    assert (_lines(site, once), _lines(site, again), _lines(site, again, 2)) == (1, 1, 2)
    assert b"\n[Attempt 2 begins here.]\n" in site.api.log(str(again.id))


@pytest.mark.parametrize("break_it", [
    ApiServer.refuse, lambda server: server.answer(500), lambda server: server.answer(429),
], ids=["away", "500", "429"])
@_LONG
def test_it_ends_while_the_api_is_away(site: Site, program: str, server: ApiServer,
                                       break_it: Callable[[ApiServer], None]) -> None:
    made = _running(site, program, seconds=4, lines=4, then="raise")
    break_it(server)
    server.end_watches()
    site.ledger.wait_until_gone(PATIENCE)
    time.sleep(8)
    assert site.api.show(str(made.id))["status"] == "running", "nobody can know yet"
    server.heal()
    ended = site.ended(made)
    assert (ended["status"], ended["attempts"]) == ("failed", 1)
    assert "status 1" in ended["output"]
    assert _lines(site, made) == 4
    assert b"fails as it was asked to" in site.api.log(str(made.id))


@_LONG
def test_it_is_begun_when_the_api_is_back(site: Site, program: str, server: ApiServer) -> None:
    server.refuse()
    server.end_watches()
    made = site.start(program)
    time.sleep(8)
    assert site.api.show(str(made.id))["status"] == "running"
    assert site.ledger.entries() == []
    server.heal()
    ended = site.ended(made)
    assert (ended["status"], ended["attempts"]) == ("success", 1)


@_LONG
def test_a_pod_that_is_there_already(site: Site, program: str, python_image: str,
                                     server: ApiServer) -> None:
    """As when the cluster made it, and the answer was lost: it is the run."""
    server.answer(503, lambda call: (call.verb, call.resource) == ("create", "pods"))
    made = site.start(program, 2)
    pod = describe(f"qx-run-{made.id}-1", python_image, **{
        "app.kubernetes.io/managed-by": "qinling-exec", "qinling-exec/attempt": "1",
        RUN: str(made.id)})
    pod["metadata"]["annotations"] = {"qinling-exec/timeout": "30", "qinling-exec/log-begin": "0"}
    pod["spec"]["containers"][0]["args"] = site.arguments(2)
    pod["spec"]["securityContext"]["runAsUser"] = 65532
    site.cluster.apply(pod, namespace=site.namespace)
    site.started(made)
    server.heal()
    ended = site.ended(made)
    assert (ended["status"], ended["attempts"]) == ("success", 1)
    assert len(site.ledger.entries()) == 1


@_LONG
def test_it_fills_its_disk(site: Site, program: str) -> None:
    ended = site.ended(site.start(program, then="disk"), 140)  # nodes look once a minute
    assert ended["status"] == "failed", ended
    assert "too much resource consumption" in ended["output"]


def test_another_engine_goes_on_with_what_a_dead_one_began(site: Site, program: str) -> None:
    made = _running(site, program, seconds=10, lines=10)
    assert processes.wait_for(lambda: _lines(site, made) > 2, PATIENCE)
    site.deployment.engines[-1].kill()
    site.deployment.start_engine()
    ended = site.ended(made)
    assert (ended["status"], ended["attempts"]) == ("success", 1)


def test_what_ended_while_no_engine_was_there(site: Site, program: str) -> None:
    made = _running(site, program, seconds=4, lines=4, then="raise")
    site.deployment.engines[-1].kill()
    assert processes.wait_for(lambda: site.pods(RUN)[0]["status"]["phase"] == "Failed", PATIENCE)
    site.deployment.start_engine()
    ended = site.ended(made)
    assert (ended["status"], ended["attempts"]) == ("failed", 1)
    assert "status 1" in ended["output"]
    assert _lines(site, made) == 4


@_LONG
def test_an_engine_that_ends_leaves_its_runs_to_the_next(site: Site, program: str) -> None:
    made = _running(site, program, seconds=10)
    site.deployment.engines[-1].stop()
    assert site.api.show(str(made.id))["status"] == "running"
    site.deployment.start_engine()
    ended = site.ended(made)
    assert (ended["status"], ended["attempts"]) == ("success", 1)


@pytest.mark.parametrize("point", [
    pytest.param("claimed", marks=_LONG), pytest.param("posted", marks=_LONG),
    pytest.param("answered", marks=_LONG), "committed"])
def test_an_engine_dies_between_two_steps(site: Site, program: str, point: str) -> None:
    site.deployment.engines[-1].stop()
    site.deployment.start_engine(f"{point}=kill")
    engine = site.deployment.engines[-1]
    before = engine.pid
    made = site.start(program)
    assert processes.wait_for(lambda: not Path(f"/proc/{before}").exists(), 30)
    engine.kill()
    site.deployment.start_engine()
    ended = site.ended(made)
    # Of what was claimed nobody knows whether there had been a pod.
    assert ended["status"] == ("error" if point == "claimed" else "success")
    assert ended["attempts"] == 1


@_LONG
def test_cancelled_while_no_engine_is_there(site: Site, program: str) -> None:
    made = _running(site, program)
    site.deployment.engines[-1].kill()
    assert site.history.cancel(made) == 202
    assert site.api.show(str(made.id))["status"] == "running"
    site.deployment.start_engine()
    assert (site.ended(made)["status"], _lines(site, made)) == ("cancelled", 1)


@_LONG
def test_its_pod_went_while_no_engine_was_there(site: Site, program: str) -> None:
    made = _running(site, program)
    site.deployment.engines[-1].kill()
    _force(site, made)
    site.deployment.start_engine()
    ended = site.ended(made)
    assert (ended["status"], _lines(site, made)) == ("error", 1)
    assert "pod is not there any more" in ended["output"]


@_LONG
def test_many_at_once(site: Site, python_image: str) -> None:
    program = site.program(python_image, cpu=100)
    made = [site.start(program, lines=1) for _ in range(20)]
    ended = [site.ended(one) for one in made]
    assert [item for item in ended if item["status"] != "success"] == []
