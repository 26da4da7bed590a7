# SPDX-License-Identifier: Apache-2.0
"""Workers as local processes."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from qinling_exec import conf as configuration
from qinling_exec.orchestrator.base import (
    Capacity,
    OrchestratorError,
    PoolRequest,
    Size,
    WorkerAddress,
)
from qinling_exec.orchestrator.process import ProcessOrchestrator
from qinling_exec.orchestrator.wire import Wire, WorkerLost, WorkerRefused, WorkerUnreachable
from qinling_exec.orchestrator.workers import READY, Worker
from tests.functional import processes
from tests.unit.runtime.client import package

POOL = PoolRequest("r", "image")
SIZE = Size(100, 2**25, 3)


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    """A short path: pytest's own are too long for sockets."""
    path = pathlib.Path(f"/tmp/qt-{os.getpid()}")
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []
    path.rmdir()


def orchestrator_at(directory: pathlib.Path, size: int = 1) -> ProcessOrchestrator:
    conf = configuration.load()
    conf.set_override("run_directory", str(directory), "process")
    conf.set_override("pool_size", size, "process")
    return ProcessOrchestrator(conf)


@pytest.fixture
def orchestrator(directory: pathlib.Path) -> Iterator[ProcessOrchestrator]:
    orchestrator = orchestrator_at(directory)
    yield orchestrator
    orchestrator.close()


def as_worker(address: WorkerAddress) -> Worker:
    return Worker("", "f", 0, "", READY, None, address.address, 3, address.secret)


def run(wire: Wire, worker: Worker, source: str, given: Any = None) -> dict[str, Any]:
    data = package(source)
    wire.specialize(worker, io.BytesIO(data), len(data), {
        "function_id": "f", "function_version": 0, "entry": "main.main",
        "sha256": hashlib.sha256(data).hexdigest(), "memory_size": 32 << 20}, 30)
    return wire.execute(worker, {
        "execution_id": "e", "attempt": 1, "function_id": "f", "function_version": 0,
        "input": given, "timeout": 5, "request_id": None}, 30, lambda data: None)


def test_pool(orchestrator: ProcessOrchestrator) -> None:
    assert orchestrator.capacity("r") is None
    with pytest.raises(OrchestratorError, match="no pool"):
        orchestrator.take("r", "w", SIZE)
    orchestrator.ensure_pool(POOL)
    orchestrator.ensure_pool(POOL)
    assert orchestrator.capacity("r") == Capacity(1, 1)
    orchestrator.delete_pool("r")
    orchestrator.delete_pool("r")
    assert orchestrator.capacity("r") is None


def test_taken_worker_runs_and_is_replaced_in_the_pool(orchestrator: ProcessOrchestrator) -> None:
    orchestrator.ensure_pool(POOL)
    worker = as_worker(orchestrator.take("r", "w", SIZE))
    assert orchestrator.alive("w")
    wire = Wire()
    assert run(wire, worker, "def main(): return 1")["output"] == 1
    assert processes.wait_for(lambda: orchestrator.capacity("r") == Capacity(2, 1), 10)
    orchestrator.release("w")
    assert not orchestrator.alive("w")
    assert orchestrator.capacity("r") == Capacity(1, 1)
    orchestrator.release("w")
    wire.forget(worker)


def test_more_workers_than_the_pool_has(orchestrator: ProcessOrchestrator) -> None:
    orchestrator.ensure_pool(POOL)
    addresses = [orchestrator.take("r", f"w{number}", SIZE) for number in range(3)]
    assert len({address.address for address in addresses}) == 3
    assert len({address.secret for address in addresses}) == 3


def test_workers_know_their_own_secret_only(orchestrator: ProcessOrchestrator) -> None:
    orchestrator.ensure_pool(POOL)
    first, second = orchestrator.take("r", "1", SIZE), orchestrator.take("r", "2", SIZE)
    mixed = as_worker(WorkerAddress("x", first.address, second.secret))
    with pytest.raises(WorkerRefused, match="secret"):
        run(Wire(), mixed, "def main(): pass")


def test_release_ends_what_runs(orchestrator: ProcessOrchestrator) -> None:
    orchestrator.ensure_pool(POOL)
    worker = as_worker(orchestrator.take("r", "w", SIZE))
    source = textwrap.dedent("""
        import subprocess, time
        def main():
            subprocess.Popen(['sleep', '61.61'], start_new_session=True)
            time.sleep(60)
        """)

    def work() -> None:
        with pytest.raises((WorkerLost, WorkerUnreachable)):
            run(Wire(), worker, source)

    thread = threading.Thread(target=work)
    thread.start()

    def sleeping() -> list[str]:
        return [line for line in processes.descendants(os.getpid()).values() if "61.61" in line]

    assert processes.wait_for(sleeping, 10)
    orchestrator.release("w")
    assert processes.wait_for(lambda: not sleeping(), 3), "it lives"
    thread.join()


def test_dead_workers_are_noticed(orchestrator: ProcessOrchestrator,
                                  directory: pathlib.Path) -> None:
    orchestrator.ensure_pool(POOL)
    orchestrator.take("r", "w", SIZE)
    assert processes.wait_for(lambda: orchestrator.capacity("r") == Capacity(2, 1), 10)
    # What else is below this process: workers of the services that tests share, and PostgreSQL,
    # which has an option --listen_addresses.
    servers = [key for key, line in processes.descendants(os.getpid()).items()
               if f"--listen unix:{directory}/" in line]
    assert len(servers) == 2
    processes.kill(servers)
    assert processes.wait_for(lambda: not orchestrator.alive("w"), 5)
    assert processes.wait_for(lambda: orchestrator.capacity("r") == Capacity(1, 0), 5)
    orchestrator.ensure_pool(POOL)
    assert orchestrator.capacity("r") == Capacity(2, 1)


def test_environment_of_a_worker_is_clean(orchestrator: ProcessOrchestrator,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_PASSWORD", "confidential")
    orchestrator.ensure_pool(POOL)
    for pid, _ in processes.descendants(os.getpid()):
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        assert b"OS_PASSWORD" not in environment


def test_directory_is_private(orchestrator: ProcessOrchestrator, directory: pathlib.Path) -> None:
    orchestrator.ensure_pool(POOL)
    (own,) = directory.glob("qx-*")
    assert stat.S_IMODE(own.stat().st_mode) == 0o711
    for path in own.glob("*/sock"):
        assert not path.stat().st_mode & 0o022


def test_path_that_is_too_long_for_sockets(tmp_path: pathlib.Path) -> None:
    deep = tmp_path / ("x" * 80)
    with pytest.raises(OrchestratorError, match="too long"):
        orchestrator_at(deep)
    assert not deep.exists()


def test_worker_that_does_not_start(directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
                                    ) -> None:
    orchestrator = orchestrator_at(directory)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OrchestratorError, match="did not start"):
        orchestrator.ensure_pool(POOL)
    monkeypatch.setattr(sys, "executable", "/nowhere")
    with pytest.raises(OrchestratorError, match="can't be started"):
        orchestrator.ensure_pool(POOL)
    orchestrator.close()
    orchestrator.close()


def test_workers_do_not_outlive_a_killed_service(directory: pathlib.Path) -> None:
    service = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import pathlib, time
        from tests.unit.orchestrator.test_process import POOL, orchestrator_at
        orchestrator = orchestrator_at(pathlib.Path({str(directory)!r}))
        orchestrator.ensure_pool(POOL)
        print("there", flush=True)
        time.sleep(60)
        """)], stdout=subprocess.PIPE, cwd=pathlib.Path(__file__).parents[3])
    assert service.stdout is not None
    assert service.stdout.readline() == b"there\n"
    below = list(processes.descendants(service.pid))
    assert below
    service.send_signal(signal.SIGKILL)
    service.wait()
    service.stdout.close()
    assert processes.wait_for(lambda: not processes.alive(below), 5)
    (left,) = directory.iterdir()
    other = orchestrator_at(directory)  # cleans up, and leaves alone what is in use
    assert not left.exists()
    third = orchestrator_at(directory)
    assert len(list(directory.iterdir())) == 2
    other.close()
    third.close()
