# SPDX-License-Identifier: Apache-2.0
"""What every orchestrator has to do: one suite for local processes and for pods."""

from __future__ import annotations

import hashlib
import io
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from qinling_exec import conf as configuration
from qinling_exec.orchestrator.base import Capacity, OrchestratorError, PoolRequest, Size
from qinling_exec.orchestrator.kubernetes.driver import KubernetesOrchestrator
from qinling_exec.orchestrator.process import ProcessOrchestrator
from qinling_exec.orchestrator.wire import Wire, WorkerRefused, WorkerUnreachable
from qinling_exec.orchestrator.workers import READY, Worker
from qinling_exec.service import run_limits
from tests.functional import processes
from tests.unit.runtime.client import package

RUNTIME = "11111111-2222-3333-4444-555555555555"
SIZE = Size(100, 2**25, 3)
_SECONDS = 60


class Driven:
    """A driver with what its pools are made of.

    :param left: returns what there still is of it outside.
    """

    def __init__(self, orchestrator: Any, image: str, left: Callable[[], object]) -> None:
        self.orchestrator = orchestrator
        self.left = left
        self.pool = PoolRequest(RUNTIME, image)

    def take(self, name: str, size: Size = SIZE) -> Worker:
        """Take a worker that knows no function yet."""
        taken = self.orchestrator.take(RUNTIME, name, size)
        return Worker(name, "f", 0, "", READY, None, taken.address, 3, taken.secret)

    def free(self, count: int) -> bool:
        """Wait until the pool has so many free workers."""
        return bool(processes.wait_for(
            lambda: self.orchestrator.capacity(RUNTIME).available == count, _SECONDS))


@pytest.fixture(scope="module", params=["process", "kubernetes"])
def driven(request: pytest.FixtureRequest) -> Iterator[Driven]:
    conf = configuration.load()
    if request.param == "process":
        with tempfile.TemporaryDirectory(prefix="qo-") as folder:
            conf.set_override("run_directory", folder, "process")
            process = ProcessOrchestrator(conf)
            yield Driven(process, "any", lambda: len(list(pathlib.Path(folder).glob("*/[0-9]*"))))
            process.close()
        return
    cluster = request.getfixturevalue("cluster")
    namespace = request.getfixturevalue("namespace")
    access = request.getfixturevalue("access")  # the rights of the shipped Role, and no others
    conf.set_override("kubeconfig", str(access.kubeconfig("engine")), "kubernetes")
    conf.set_override("namespace", namespace, "kubernetes")
    pods = KubernetesOrchestrator(conf)
    yield Driven(pods, request.getfixturevalue("runtime_image"),
                 lambda: len(cluster.get("-n", namespace, "pods")["items"]))
    pods.close()


@pytest.fixture
def pool(driven: Driven) -> Iterator[Driven]:
    """A pool with two free workers; nothing is left of it."""
    driven.orchestrator.ensure_pool(driven.pool)
    assert driven.free(2)
    yield driven
    for name in ("one", "two", "three"):
        driven.orchestrator.release(name)
    driven.orchestrator.delete_pool(RUNTIME)
    assert driven.orchestrator.capacity(RUNTIME) is None
    assert processes.wait_for(lambda: driven.left() == 0, _SECONDS), "something is left"


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    for address in list(wire._idle):
        wire.forget(Worker("", "", 0, "", READY, None, address, 1))


def _teach(wire: Wire, worker: Worker, source: str) -> None:
    data = package({"main.py": source})
    spec = {"function_id": "f", "function_version": 0, "entry": "main.main",
            "sha256": hashlib.sha256(data).hexdigest(), "memory_size": SIZE.memory, "cpu": 100,
            "room": 3, "limits": run_limits(configuration.load())}
    wire.specialize(worker, io.BytesIO(data), len(data), spec, 30)


def _run(wire: Wire, worker: Worker, given: Any) -> dict[str, Any]:
    return wire.execute(worker, {
        "execution_id": "e", "attempt": 1, "function_id": "f", "function_version": 0,
        "input": given, "timeout": 20, "request_id": None}, 40, lambda _data: None)


def test_a_worker_from_pool_to_end(pool: Driven, wire: Wire) -> None:
    worker = pool.take("one")
    assert pool.orchestrator.alive("one")
    _teach(wire, worker, "def main(x):\n    return x + 1\n")
    pool.orchestrator.fit("one", SIZE)
    assert _run(wire, worker, {"x": 1})["output"] == 2
    assert pool.free(2), "the pool refills"
    assert pool.orchestrator.capacity(RUNTIME) == Capacity(3, 2)
    pool.orchestrator.release("one")
    pool.orchestrator.release("one")
    assert not pool.orchestrator.alive("one")
    with pytest.raises(WorkerUnreachable):
        wire.ping(worker)


def test_more_workers_than_the_pool_has(pool: Driven, wire: Wire) -> None:
    taken = [pool.take(name) for name in ("one", "two", "three")]
    assert len({worker.address for worker in taken}) == 3
    assert len({worker.secret for worker in taken}) == 3
    for worker in taken:
        _teach(wire, worker, "def main():\n    return 1\n")
        assert _run(wire, worker, {})["output"] == 1


def test_workers_know_their_own_secret_only(pool: Driven, wire: Wire) -> None:
    first, second = pool.take("one"), pool.take("two")
    for worker in (first, second):
        _teach(wire, worker, "def main():\n    return 1\n")
    with pytest.raises(WorkerRefused):
        _run(wire, replace(first, secret=second.secret), {})


def test_a_worker_that_needs_more_memory_than_the_pool_has(pool: Driven, wire: Wire) -> None:
    size = Size(100, 2**27, 3)
    worker = pool.take("one", size)
    _teach(wire, worker, "def main():\n    return 1\n")
    pool.orchestrator.fit("one", size)
    assert _run(wire, worker, {})["output"] == 1


def test_nobody_takes_workers_of_a_runtime_without_a_pool(driven: Driven) -> None:
    with pytest.raises(OrchestratorError):
        driven.take("one")


def test_pools_are_made_and_deleted_again_and_again(driven: Driven) -> None:
    driven.orchestrator.ensure_pool(driven.pool)
    driven.orchestrator.ensure_pool(driven.pool)
    driven.orchestrator.delete_pool(RUNTIME)
    driven.orchestrator.delete_pool(RUNTIME)
    assert processes.wait_for(lambda: driven.left() == 0, _SECONDS)
