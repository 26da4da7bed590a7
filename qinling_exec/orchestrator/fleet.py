# SPDX-License-Identifier: Apache-2.0
"""Keeps pools and workers as the tables want them: starts, retires, replaces."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from qinling_exec.catalogue import runtimes
from qinling_exec.catalogue.packages import PackageStore
from qinling_exec.db import models
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.executions import targets
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.base import Orchestrator, OrchestratorError, PoolRequest
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.wire import Wire, WorkerRefused, WorkerUnreachable
from qinling_exec.orchestrator.workers import Worker, Workers

LOG = logging.getLogger(__name__)
#: How often workers are asked whether they live and are idle, in seconds.
_LOOK_SECONDS = 2.0
#: After so many failed starts in a row what waits for the worker is told the reason.
_TRIES = 3

_runtimes = models.Runtime.__table__


class Fleet:
    """The workers and pools that one engine looks after.

    :param runner_id: the engine's id.
    :param limits: what a run may use, passed on to workers.
    :param idle_seconds: after which a worker with nothing to do goes.
    :param start_seconds: within which a worker must have loaded its function.
    """

    def __init__(self, database: Database, orchestrator: Orchestrator, table: Workers,
                 slots: Slots, wire: Wire, store: PackageStore, runner_id: str,
                 limits: dict[str, Any], idle_seconds: float, start_seconds: float) -> None:
        self._database = database
        self._orchestrator = orchestrator
        self._table = table
        self._slots = slots
        self._wire = wire
        self._store = store
        self._runner_id = runner_id
        self._limits = limits
        self._idle_seconds = idle_seconds
        self._start_seconds = start_seconds
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="fleet")
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._looked = 0.0
        self._failures: dict[str, tuple[int, str]] = {}

    def start(self) -> None:
        """Make the pools of the runtimes that are there; a driver starts without any."""
        with self._database.writer() as connection:
            connection.execute(
                sa.update(_runtimes).where(_runtimes.c.status == runtimes.AVAILABLE)
                .values(status=runtimes.CREATING)
            )
        self.tend()

    def tend(self) -> None:
        """Do what the tables ask for, without waiting for it to be done."""
        self._tend_runtimes()
        look = time.monotonic() - self._looked > _LOOK_SECONDS
        for worker in self._table.of_engine(self._runner_id):
            if worker.state == workers.STARTING:
                self._once(worker.name, functools.partial(self._start, worker))
            elif worker.state == workers.DRAINING:
                self._once(worker.name, functools.partial(self._retire, worker))
            elif self._slots.suspected(worker.name) or look:
                self._once(worker.name, functools.partial(self._check, worker))
        if look:
            self._looked = time.monotonic()
            self._record_pools()

    def close(self) -> None:
        """Wait for what is being done, then end every worker and pool."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._orchestrator.close()
        with self._database.writer() as connection:
            table = models.Worker.__table__
            connection.execute(sa.delete(table).where(table.c.runner_id == self._runner_id))

    def failure(self, fingerprint: str) -> str | None:
        """Return why workers of a shape can't be had, once that is certain; None before."""
        tries, reason = self._failures.get(fingerprint, (0, ""))
        if tries < _TRIES:
            return None
        del self._failures[fingerprint]
        return reason

    def _once(self, key: str, work: Callable[[], None]) -> None:
        """Do something in the background unless it is being done."""
        with self._lock:
            if key in self._busy:
                return
            self._busy.add(key)

        def run() -> None:
            try:
                work()
            except Exception:
                LOG.exception("Looking after %s failed; it is tried again.", key)
            finally:
                with self._lock:
                    self._busy.discard(key)
                self._table.wakeup.ring()

        self._pool.submit(run)

    def _start(self, worker: Worker) -> None:
        """Bring a wanted worker up: take one, push the package, open it for runs."""
        if worker.runner_id is None and not self._table.adopt(worker.name, self._runner_id):
            return
        with self._database.reader() as connection:
            target = targets.load(connection, worker.function_id, worker.function_version)
        if target is None or target.fingerprint != worker.fingerprint or not target.runtime_id:
            self._table.remove(worker.name)
            return
        began = time.monotonic()
        try:
            address = self._orchestrator.take(target.runtime_id, worker.name)
            ready = replace(worker, address=address.address, secret=address.secret)
            self._specialize(ready, target)
        except (OrchestratorError, WorkerRefused, WorkerUnreachable) as error:
            self._failed(worker, str(error))
            return
        self._failures.pop(worker.fingerprint, None)
        if not self._table.started(worker.name, address.address, address.secret):
            self._gone(ready)
            return
        LOG.info("Worker %s of function %s (version %s) is ready after %.0f ms.", worker.name,
                 worker.function_id, worker.function_version,
                 (time.monotonic() - began) * 1000)

    def _specialize(self, worker: Worker, target: targets.Target) -> None:
        assert target.package is not None
        spec = {
            "function_id": target.function_id, "function_version": target.version,
            "entry": target.entry, "sha256": target.package, "memory_size": target.memory_size,
            "cpu": target.cpu, "room": worker.room, "limits": self._limits,
        }
        with self._store.open(target.package) as package:
            size = package.seek(0, 2)
            package.seek(0)
            self._wire.specialize(worker, package, size, spec, self._start_seconds)

    def _failed(self, worker: Worker, reason: str) -> None:
        tries, _ = self._failures.get(worker.fingerprint, (0, ""))
        self._failures[worker.fingerprint] = (tries + 1, reason)
        LOG.warning("Worker %s of function %s could not be started: %s", worker.name,
                    worker.function_id, reason)
        self._gone(worker)

    def _retire(self, worker: Worker) -> None:
        """End a worker that no run needs any more."""
        if self._slots.busy(worker.name):
            return
        if worker.address is not None:
            try:
                if self._wire.ping(worker)["running"]:  # another process has runs on it
                    return
            except (WorkerUnreachable, WorkerRefused):
                pass  # it is gone already
        self._gone(worker)
        LOG.info("Worker %s of function %s (version %s) has ended.", worker.name,
                 worker.function_id, worker.function_version)

    def _check(self, worker: Worker) -> None:
        """Drop a dead worker, let an idle one go."""
        try:
            state = self._wire.ping(worker)
        except (WorkerUnreachable, WorkerRefused):
            if not self._orchestrator.alive(worker.name):
                LOG.warning("Worker %s has died.", worker.name)
                self._gone(worker)
            return
        if not state["running"] and state["idle_seconds"] > self._idle_seconds:
            with self._database.writer() as connection:
                self._table.set_state(connection, [worker.name], workers.DRAINING)

    def _gone(self, worker: Worker) -> None:
        self._wire.forget(worker)
        self._orchestrator.release(worker.name)
        self._table.remove(worker.name)

    def _tend_runtimes(self) -> None:
        pending = (runtimes.CREATING, runtimes.UPGRADING, runtimes.DELETING)
        with self._database.reader() as connection:
            rows = connection.execute(
                sa.select(_runtimes).where(_runtimes.c.status.in_(pending))
            ).all()
        for row in rows:
            work = self._delete_pool if row.status == runtimes.DELETING else self._make_pool
            self._once(row.id, functools.partial(work, row))

    def _make_pool(self, row: sa.Row[Any]) -> None:
        status, reason = runtimes.AVAILABLE, None
        try:
            self._orchestrator.ensure_pool(PoolRequest(row.id, row.image, row.trusted))
        except OrchestratorError as error:
            status, reason = runtimes.ERROR, str(error)[:255]
            LOG.warning("The pool of runtime %s could not be made: %s", row.id, reason)
        capacity = self._orchestrator.capacity(row.id)
        # A pool that is made again when the engine starts is no change of the runtime.
        again = row.status == runtimes.CREATING and row.updated_at is not None
        changed = row.updated_at if again else utcnow()
        with self._database.writer() as connection:
            connection.execute(
                sa.update(_runtimes)
                .where(_runtimes.c.id == row.id, _runtimes.c.status == row.status)
                .values(status=status, status_reason=reason, updated_at=changed,
                        pool_total=capacity.total if capacity else 0,
                        pool_available=capacity.available if capacity else 0)
            )

    def _delete_pool(self, row: sa.Row[Any]) -> None:
        self._orchestrator.delete_pool(row.id)
        with self._database.writer() as connection:
            connection.execute(sa.delete(_runtimes).where(_runtimes.c.id == row.id))

    def _record_pools(self) -> None:
        """Write the pools' figures down for the API, when they have changed."""
        columns = (_runtimes.c.id, _runtimes.c.pool_total, _runtimes.c.pool_available)
        with self._database.reader() as connection:
            rows = connection.execute(sa.select(*columns)).all()
        for row in rows:
            capacity = self._orchestrator.capacity(row.id)
            figures = (capacity.total, capacity.available) if capacity else (0, 0)
            if figures != (row.pool_total, row.pool_available):
                with self._database.writer() as connection:
                    connection.execute(
                        sa.update(_runtimes).where(_runtimes.c.id == row.id)
                        .values(pool_total=figures[0], pool_available=figures[1])
                    )
