# SPDX-License-Identifier: Apache-2.0
"""Keeps pools and workers as the tables want them: starts, retires, replaces."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from qinling_exec import faultpoint
from qinling_exec.catalogue.packages import PackageStore
from qinling_exec.db import models
from qinling_exec.db.engine import Database
from qinling_exec.exceptions import NotFound, Unavailable
from qinling_exec.executions import targets
from qinling_exec.metrics import WORKER_SECONDS
from qinling_exec.orchestrator import hung, workers
from qinling_exec.orchestrator.background import UNCHANGED, Background
from qinling_exec.orchestrator.base import (
    Orchestrator,
    OrchestratorError,
    OrchestratorHopeless,
    OrchestratorUnavailable,
    Size,
)
from qinling_exec.orchestrator.crowding import Crowding
from qinling_exec.orchestrator.failures import Failures
from qinling_exec.orchestrator.fitting import Fitting
from qinling_exec.orchestrator.pools import Pools
from qinling_exec.orchestrator.reconcile import Reconciler
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.teaching import Teacher
from qinling_exec.orchestrator.wire import Wire, WorkerRefused, WorkerUnreachable
from qinling_exec.orchestrator.workers import Worker, Workers

LOG = logging.getLogger(__name__)
#: How often workers are asked whether they live and are idle, in seconds.
_LOOK_SECONDS = 2.0
#: Workers that an engine starts at the same time.
STARTS = 8
#: Between the last moment that a worker could be chosen for a run and its end, in seconds.
_GRACE_SECONDS = 1.0
#: For which the row of a lost worker says why, at least, to those that lost runs with it.
_TOLD_SECONDS = 8.0
#: Pools that are made at the same time; each may wait for what never comes.
_POOLS = 4


class Fleet:
    """The workers and pools that one engine looks after.

    :param owner: returns the engine's id.
    :param limits: what a run may use, passed on to workers.
    :param idle_seconds: returns after how long a worker with nothing to do goes.
    :param start_seconds: within which a worker must have loaded its function.
    """

    def __init__(self, database: Database, orchestrator: Orchestrator, table: Workers,
                 slots: Slots, wire: Wire, store: PackageStore,
                 owner: Callable[[], str], limits: dict[str, Any],
                 idle_seconds: Callable[[], float], start_seconds: float) -> None:
        self._database = database
        self._orchestrator = orchestrator
        self._table = table
        self._slots = slots
        self._wire = wire
        self._teacher = Teacher(wire, store, limits, start_seconds)
        self._owner = owner
        self._idle_seconds = idle_seconds
        self._background = Background("fleet", STARTS, table.wakeup.ring, slow=STARTS)
        self._pool_background = Background("pools", _POOLS, table.wakeup.ring)
        self._taken: set[str] = set()
        self._draining_since: dict[str, float] = {}
        self._looked = 0.0
        self._recount = False
        self._failures = Failures()
        self.crowding = Crowding(start_seconds)
        self._pools = Pools(database, orchestrator)
        self._fitting = Fitting(database, orchestrator)
        self._reconciler = Reconciler(database, orchestrator)
        self._lost: set[str] = set()
        orchestrator.listen(self._note_loss)

    @property
    def ready(self) -> bool:
        """True when every runtime has its pool here, or can't have one."""
        return self._pools.ready

    def tend(self) -> None:
        """Do what the tables ask for, without waiting for it to be done."""
        self._pools.tend(self._pool_background.once)
        if self._reconciler.is_due:
            self._pool_background.once("reconcile", self._reconciler.reconcile)
        look = time.monotonic() - self._looked > _LOOK_SECONDS
        mine = self._table.of_engine(self._owner())
        names = {worker.name for worker in mine}
        self._lost &= names  # the rest is for other engines
        self._release_others(names)
        for worker in mine:
            if worker.state == workers.STARTING:
                self._background.once(worker.name, functools.partial(self._start, worker), True)
            elif worker.state in workers.LEAVING:
                end = self._retire if worker.state == workers.DRAINING else self._gone
                if not self._background.once(worker.name, functools.partial(end, worker)):
                    self.crowding.give_up({worker.name})
            elif self._slots.suspected(worker.name) or look or worker.name in self._lost:
                self._background.once(worker.name, functools.partial(self._check, worker))
        if look or self._recount:
            self._recount = False
            self._pools.record()
        if look:
            self._looked = time.monotonic()

    def end_run(self, worker: Worker, execution_id: str) -> None:
        """End a run that a dead process left on a worker; one that does not listen goes too."""
        if not self._wire.cancel(worker, execution_id):
            self.end_hung(worker)

    def end_hung(self, worker: Worker) -> None:
        """End a worker that does not listen, with all that runs there.

        :raises TimeoutError: it is another engine's, which has not ended it.
        """
        if self._orchestrator.shared:
            (self._died if self._is_lost(worker) else self._gone)(worker)
        elif worker.runner_id == self._owner():
            self._gone(worker)
        else:  # who forgets it does not end it, and something may be begun again beside it
            hung.have_ended(self._table, self._wire, worker, by_any=False)

    def abandon(self, worker: Worker) -> None:
        """See to a worker that a dead engine left behind: another engine's, or at its end."""
        if self._orchestrator.shared:
            self._table.leave(str(worker.runner_id), worker.name)
        else:
            self._gone(worker)

    def drain(self) -> None:
        """Let all workers go once their runs end, unless other engines can have them."""
        if self._orchestrator.shared:
            return
        try:
            self._table.drain(self._owner())
        except Unavailable as error:
            LOG.warning("The workers could not be marked: %s", error)

    @property
    def idle(self) -> bool:
        """True when this engine has no worker that ends with it."""
        if self._orchestrator.shared:
            return True
        return not self._taken and not self._table.of_engine(self._owner())

    def close(self) -> None:
        """Wait for what is being done, then end every worker and pool that others can't have."""
        self.crowding.close()
        self._background.stop()
        self._pool_background.stop()
        self._orchestrator.close()
        if self._orchestrator.shared:
            self._table.leave(self._owner())
            return
        table = models.Worker.__table__
        try:
            with self._database.writer() as connection:
                connection.execute(sa.delete(table).where(table.c.runner_id == self._owner()))
        except Unavailable as error:
            LOG.warning("The workers' rows stay until the database is back: %s", error)

    def failure(self, fingerprint: str) -> str | None:
        """Return why workers of a shape can't be had, once that is certain; None before."""
        return self._failures.certain(fingerprint)

    def _release_others(self, mine: set[str]) -> None:
        """End workers that are not in the table any more: this engine was taken for dead."""
        if self._orchestrator.shared:
            return  # they are another engine's by now
        gone = self._taken - mine - self._background.busy()
        for name in gone:
            LOG.warning("Worker %s is not wanted any more.", name)
            self._orchestrator.release(name)
            self._taken.discard(name)

    def _note_loss(self, name: str) -> None:
        """Have a worker looked at now."""
        self._lost.add(name)
        self._table.wakeup.wake()

    def _start(self, worker: Worker) -> None:
        """Bring a wanted worker up: take one, push the package, open it for runs."""
        if worker.runner_id is None and not self._table.adopt(worker.name, self._owner()):
            return
        self._taken.add(worker.name)
        with self._database.reader() as connection:
            target = targets.load(connection, worker.function_id, worker.function_version)
        if target is None or target.fingerprint != worker.fingerprint or not target.runtime_id:
            self._taken.discard(worker.name)
            self._table.remove(worker.name)
            return
        began = time.monotonic()
        try:
            size = Size(target.cpu, target.memory_size, worker.room)
            waits = functools.partial(self.crowding.waits, worker.name)
            address = self._orchestrator.take(target.runtime_id, worker.name, size, waits)
            self._recount = True
            ready = replace(worker, address=address.address, secret=address.secret)
            self._teacher.teach(ready, target)
            faultpoint.reach("pod-specialized")
        except OrchestratorUnavailable:
            raise  # it is wanted as before, and tried again
        except (OrchestratorError, WorkerRefused, WorkerUnreachable) as error:
            if self.crowding.end(worker.name):  # nothing needs it any more
                self._gone(worker)
            else:
                self._failed(worker, str(error), isinstance(error, OrchestratorHopeless))
            return
        except NotFound:  # most likely it was deleted meanwhile, with its function or version
            self._failed(worker, "The function's package is not there any more.")
            return
        finally:
            self.crowding.end(worker.name)
        self._failures.forget(worker.fingerprint)
        if not self._table.started(worker.name, address.address, address.secret):
            self._gone(ready)
            return
        WORKER_SECONDS.observe(time.monotonic() - began)
        LOG.info("Worker %s of function %s (version %s) is ready after %.0f ms.", worker.name,
                 worker.function_id, worker.function_version,
                 (time.monotonic() - began) * 1000)
        faultpoint.reach("pod-recorded")
        self._table.wakeup.ring()  # its runs need not wait until it has its size
        self._fitting.fit(worker.name, size)

    def _failed(self, worker: Worker, reason: str, hopeless: bool = False) -> None:
        self._failures.note(worker.fingerprint, reason, hopeless)
        LOG.warning("Worker %s of function %s could not be started: %s", worker.name,
                    worker.function_id, reason)
        self._gone(worker)

    def _retire(self, worker: Worker) -> object:
        """End a worker that no run needs any more."""
        # Whoever read the table just before may be about to send a run.
        since = self._draining_since.setdefault(worker.name, time.monotonic())
        if worker.lost is not None:
            if time.monotonic() - since < _TOLD_SECONDS or self._table.has_runs(worker.name):
                return UNCHANGED
            self._gone(worker)
            return None
        if self._slots.busy(worker.name) or time.monotonic() - since < _GRACE_SECONDS:
            return UNCHANGED
        if worker.address is not None:
            try:
                if self._wire.ping(worker)["running"]:  # another process has runs on it
                    return UNCHANGED
            except (WorkerUnreachable, WorkerRefused):
                # It may be busy; who waits for a run there ends it when it hangs.
                if self._orchestrator.alive(worker.name) and self._table.has_runs(worker.name):
                    return UNCHANGED
        self._gone(worker)
        LOG.info("Worker %s of function %s (version %s) has ended.", worker.name,
                 worker.function_id, worker.function_version)
        return None

    def _check(self, worker: Worker) -> object:
        """Drop a dead worker, let an idle one go."""
        self._lost.discard(worker.name)
        if worker.runner_id is None:
            if self._table.adopt(worker.name, self._owner()):
                self._fitting.refit(worker)
            return UNCHANGED
        # A pod that is lost may still answer, or keep a ping waiting.
        if self._is_lost(worker):
            return self._died(worker)
        try:
            state = self._wire.ping(worker)
        except (WorkerUnreachable, WorkerRefused):
            return UNCHANGED if self._orchestrator.alive(worker.name) else self._died(worker)
        if self._fitting.owes(worker.name):
            self._fitting.refit(worker)
        if state["running"] or state["idle_seconds"] <= self._idle_seconds():
            return UNCHANGED
        with self._database.writer() as connection:
            self._table.set_state(connection, [worker.name], workers.DRAINING)
        return None

    def _is_lost(self, worker: Worker) -> bool:
        return self._orchestrator.shared and not self._orchestrator.alive(worker.name)

    def _died(self, worker: Worker) -> object:
        reason = self._orchestrator.loss(worker.name)
        LOG.warning("Worker %s has died: %s", worker.name, reason or "nobody knows why.")
        if not self._orchestrator.shared:
            self._gone(worker)
            return None
        self._table.lose(worker.name, reason)
        self._wire.forget(worker)
        self._orchestrator.release(worker.name)
        return None

    def _gone(self, worker: Worker) -> None:
        self._wire.forget(worker)
        self._orchestrator.release(worker.name)
        self._table.remove(worker.name)
        self._taken.discard(worker.name)
        self._draining_since.pop(worker.name, None)
        self._fitting.forget(worker.name)
