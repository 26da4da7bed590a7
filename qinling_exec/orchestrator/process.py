# SPDX-License-Identifier: Apache-2.0
"""Workers as local processes on Unix sockets: the embedded default, for trusted code."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

from oslo_config import cfg

import qinling_exec
from qinling_exec.orchestrator import directories
from qinling_exec.orchestrator.base import (
    Capacity,
    NoRoom,
    OrchestratorError,
    PoolRequest,
    Size,
    WorkerAddress,
    never,
)
from qinling_exec.orchestrator.wire import Wire, WorkerRefused, WorkerUnreachable
from qinling_exec.orchestrator.workers import READY, Worker
from qinling_exec.runtime import journal

LOG = logging.getLogger(__name__)
_STOP_SECONDS = 3.0


class _Process:
    """One worker process. It ends when this process does: it holds a pipe that closes then."""

    def __init__(self, directory: pathlib.Path, log: str) -> None:
        self.directory = directory
        self.address = f"unix:{directory}/sock"
        self.secret = secrets.token_urlsafe(32)
        self._ending = threading.Lock()
        package = str(pathlib.Path(qinling_exec.__file__).parents[1])
        directory.mkdir(mode=0o711)
        theirs, self._ours = os.pipe2(os.O_CLOEXEC)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qinling_exec.runtime", "--listen", self.address,
                 "--scratch", str(directory / "scratch"), "--parent-fd", str(theirs)],
                env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": package,
                     "PYTHONDONTWRITEBYTECODE": "1", "QINLING_RUNTIME_SECRET": self.secret,
                     journal.VARIABLE: log},
                pass_fds=[theirs], stdin=subprocess.DEVNULL, cwd="/", start_new_session=True,
            )
        except BaseException:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def let_go(self) -> None:
        """Tell the worker to end with everything in it, now."""
        with self._ending:
            if self._ours >= 0:
                os.close(self._ours)
                self._ours = -1

    def end(self) -> None:
        """End the worker with everything in it, and remove its directory."""
        self.let_go()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class ProcessOrchestrator:
    """The driver ``process``."""

    runs_images = False
    images = None
    shared = False

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._size: int = conf.process.pool_size
        self._log = "json" if conf.use_json else ""
        self._start_seconds: float = conf.engine.start_timeout
        self._directory, self._mine = directories.make(
            pathlib.Path(conf.process.run_directory or tempfile.gettempdir()))
        self._closed = False
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._started = threading.Condition(self._lock)
        self._starting = 0
        self._pools: dict[str, list[_Process]] = {}
        self._taken: dict[str, tuple[str, _Process]] = {}
        self._filling: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._wire = Wire()
        self._warned = False

    def ensure_pool(self, pool: PoolRequest) -> None:
        """Start the pool's warm workers; every image means the Python of this service."""
        with self._lock:
            self._pools.setdefault(pool.runtime_id, [])
        self._fill(pool.runtime_id)

    def delete_pool(self, runtime_id: str) -> None:
        """End the pool's generic workers."""
        with self._lock:
            processes = self._pools.pop(runtime_id, [])
        for process in processes:
            process.end()

    def capacity(self, runtime_id: str) -> Capacity | None:
        """Count the pool's workers."""
        with self._lock:
            if runtime_id not in self._pools:
                return None
            free = sum(process.alive for process in self._pools[runtime_id])
            taken = sum(owner == runtime_id for owner, _ in self._taken.values())
        return Capacity(free + taken, free)

    def take(self, runtime_id: str, name: str, size: Size,
             no_room: NoRoom = never) -> WorkerAddress:
        """Take a warm worker, or start one when the pool is empty."""
        with self._lock:
            if runtime_id not in self._pools:
                raise OrchestratorError("The runtime has no pool of workers.")
            pool = self._pools[runtime_id]
            process = next((item for item in pool if item.alive), None)
            if process is not None:
                pool.remove(process)
                self._taken[name] = (runtime_id, process)
        if process is None:
            with self._start() as process, self._lock:
                self._taken[name] = (runtime_id, process)
        threading.Thread(target=self._refill, args=(runtime_id,), daemon=True).start()
        return WorkerAddress(name, process.address, process.secret)

    def release(self, name: str) -> None:
        """End a worker."""
        with self._lock:
            _, process = self._taken.pop(name, ("", None))
        if process is not None:
            process.end()

    def alive(self, name: str) -> bool:
        """Tell whether a worker's process is there."""
        with self._lock:
            _, process = self._taken.get(name, ("", None))
        return process is not None and process.alive

    def loss(self, name: str) -> str:
        """Return nothing: who lost a run with a worker is this process."""
        return ""

    @staticmethod
    def check(conf: cfg.ConfigOpts) -> str:
        """Return what operators have to know."""
        return "Functions run as processes of the engine's host: for trusted code only."

    def fit(self, name: str, size: Size) -> None:
        """Do nothing: the worker itself limits its runs."""

    def workers(self) -> dict[str, str] | None:
        """Return nothing: workers are this engine's own and go with it."""
        return None

    def pools(self) -> set[str]:
        """Return nothing: pools are this engine's own."""
        return set()

    def listen(self, on_lost: Callable[[str], None]) -> None:
        """Do nothing: the fleet's looks are enough."""

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            self._closed = True
            self._started.wait_for(lambda: not self._starting)
            processes = [process for _, process in self._taken.values()]
            processes += itertools.chain.from_iterable(self._pools.values())
            self._taken.clear()
            self._pools.clear()
        for process in processes:
            process.let_go()
        for process in processes:
            process.end()
        if not self._mine.closed:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._mine.close()

    def _refill(self, runtime_id: str) -> None:
        """Fill a pool in the background; whoever needs a worker of it is told what fails."""
        try:
            self._fill(runtime_id)
        except OrchestratorError as error:
            LOG.warning("The pool of runtime %s could not be filled: %s", runtime_id, error)

    def _fill(self, runtime_id: str) -> None:
        """Bring a pool back to its size."""
        with self._filling[runtime_id]:
            while True:
                with self._lock:
                    pool = self._pools.get(runtime_id)
                    if pool is None:
                        return
                    dead = [process for process in pool if not process.alive]
                    pool[:] = [process for process in pool if process.alive]
                    missing = self._size - len(pool)
                for process in dead:
                    process.end()
                if missing < 1:
                    return
                with self._start() as process:
                    with self._lock:
                        kept = self._pools.get(runtime_id)
                        if kept is not None:
                            kept.append(process)
                    if kept is None:  # the pool was deleted meanwhile
                        process.end()

    @contextlib.contextmanager
    def _start(self) -> Iterator[_Process]:
        """Start a worker; :meth:`close` waits until its taker knows where it belongs."""
        with self._lock:
            if self._closed:
                raise OrchestratorError("The service is about to end.")
            self._starting += 1
        try:
            yield self._start_one()
        finally:
            with self._lock:
                self._starting -= 1
                self._started.notify_all()

    def _start_one(self) -> _Process:
        """Start a worker and wait until it answers."""
        try:
            process = _Process(self._directory / str(next(self._numbers)), self._log)
        except OSError as error:
            raise OrchestratorError(
                f"A worker process can't be started: {error.strerror}.") from error
        until = time.monotonic() + self._start_seconds
        while time.monotonic() < until and process.alive and not self._closed:
            try:
                state = self._wire.ping(_as_worker(process))
            except (WorkerUnreachable, WorkerRefused):
                time.sleep(0.005)
                continue
            self._wire.forget(_as_worker(process))
            self._warn(state["isolation"])
            return process
        process.end()
        raise OrchestratorError("A worker process did not start; the service's log says why.")

    def _warn(self, isolation: dict[str, bool]) -> None:
        missing = sorted(name for name, there in isolation.items() if not there)
        if missing and not self._warned:
            self._warned = True
            LOG.warning("This machine does not let functions be kept apart by: %s. Run trusted"
                        " functions only.", ", ".join(missing))


def _as_worker(process: _Process) -> Worker:
    return Worker("", "", 0, "", READY, None, process.address, 1, process.secret)
