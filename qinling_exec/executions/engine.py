# SPDX-License-Identifier: Apache-2.0
"""The engine: claims queued executions, sees that they have workers, reaps what died."""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from qinling_exec import context
from qinling_exec.db import models
from qinling_exec.db.engine import Database
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.executions import dispatch, states, targets
from qinling_exec.executions.controller import Executions
from qinling_exec.executions.dispatch import Dispatch
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.queue import Claimed, Group, Queue
from qinling_exec.executions.reaper import Reaper
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.fleet import Fleet
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.workers import Worker, Workers

LOG = logging.getLogger(__name__)
_IDLE_SECONDS = 1.0
#: Between looks while something waits that could not be started.
_BUSY_SECONDS = 0.05
_GONE = "The function, or this version of it, was deleted before the execution started."

_table = models.Worker.__table__


class Engine:
    """One engine. Its loop decides, its threads run.

    :param most_workers: workers that one version of a function may have.
    :param most_in_all: workers of all functions together.
    :param threads: queued executions that this engine runs at the same time.
    """

    def __init__(self, database: Database, wakeup: Wakeup, runner: Runner, reaper: Reaper,
                 fleet: Fleet, table: Workers, slots: Slots, executions: Executions,
                 dispatcher: Dispatch, *, most_workers: int, most_in_all: int, threads: int,
                 sweep_seconds: float) -> None:
        self._database = database
        self._wakeup = wakeup
        self._runner = runner
        self._reaper = reaper
        self._fleet = fleet
        self._workers = table
        self._slots = slots
        self._executions = executions
        self._dispatch = dispatcher
        self._queue = Queue(database)
        self._most_workers = most_workers
        self._most_in_all = most_in_all
        self._free_threads = threading.Semaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="run")
        self._sweep_seconds = sweep_seconds
        self._swept = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="engine")

    def start(self) -> None:
        """Begin to work."""
        self._fleet.start()
        self._thread.start()

    def stop(self) -> None:
        """Claim nothing any more, let what runs end, then end the workers."""
        self._stop.set()
        self._wakeup.ring()
        self._thread.join()
        self._pool.shutdown(wait=True)
        self._fleet.close()

    def _loop(self) -> None:
        pause = 0.0
        while not self._stop.is_set():
            self._wakeup.wait(pause)
            try:
                self._slots.on_free = None
                pause = self._turn()
            except Exception as error:
                LOG.warning("The engine goes on after an error: %s", error,
                            exc_info=not getattr(error, "code", None))
                pause = _IDLE_SECONDS

    def _turn(self) -> float:
        """Do what is to do; return how long to sleep when nobody wakes the engine."""
        if time.monotonic() - self._swept > self._sweep_seconds:
            self._reaper.sweep()
            self._swept = time.monotonic()
        self._fleet.tend()
        waiting = False
        if self._runner.valid:
            for group in self._queue.groups():
                waiting |= self._serve(group)
        if waiting:
            self._slots.on_free = self._wakeup.ring
            return _BUSY_SECONDS
        return _IDLE_SECONDS

    def _serve(self, group: Group) -> bool:
        """Start what can be started of a group; tell whether some of it still waits."""
        with self._database.reader() as connection:
            target = targets.load(connection, group.function_id, group.version)
            warm = workers.ready(connection, group.function_id, group.version)
        if target is None:
            self._give_up(group, _GONE)
            return False
        reason = self._fleet.failure(target.fingerprint)
        if reason is not None:
            self._give_up(group, f"No worker could be started for the function: {reason}")
            return False
        fresh = [worker for worker in warm if worker.fingerprint == target.fingerprint]
        started = self._start_runs(group, target, fresh)
        self._ask_for_workers(group, target)
        return started < group.queued

    def _start_runs(self, group: Group, target: Target, fresh: list[Worker]) -> int:
        """Claim as many as there is room for, and run them."""
        started = 0
        while started < group.queued and self._free_threads.acquire(blocking=False):
            worker = self._slots.borrow(fresh)
            claimed = worker and self._queue.claim(self._runner.id, group.function_id,
                                                   group.version, 1)
            if worker is None or not claimed:
                if worker is not None:
                    self._slots.give_back(worker)
                self._free_threads.release()
                break
            self._pool.submit(self._run, claimed[0], target, worker)
            started += 1
        return started

    def _run(self, claimed: Claimed, target: Target, worker: Worker) -> None:
        context.of_execution(claimed.request_id, claimed.project_id)
        run = dispatch.Run(claimed.fence, target, claimed.input, claimed.request_id)
        try:
            outcome, sink = self._dispatch.run(run, worker)
            self._executions.finish(claimed.fence, outcome, sink)
        except dispatch.NotStarted:
            self._queue.put_back(claimed.fence)
            self._wakeup.ring()
        except Exception:
            LOG.exception("Execution %s could not be brought to its end.",
                          claimed.fence.execution_id)
        finally:
            self._free_threads.release()

    def _ask_for_workers(self, group: Group, target: Target) -> None:
        """Want as many workers as the group's runs need, within the limits."""
        with self._database.writer() as connection:
            rows = [workers.build(row) for row in connection.execute(
                _table.select().where(_table.c.state != workers.DRAINING)
            )]
            mine = [worker for worker in rows if worker.function_id == group.function_id
                    and worker.function_version == group.version]
            fresh = [worker for worker in mine if worker.fingerprint == target.fingerprint]
            outdated = [worker.name for worker in mine if worker not in fresh]
            self._workers.set_state(connection, outdated, workers.DRAINING)
            wanted = min(math.ceil(group.active / self._workers.room), self._most_workers)
            missing = wanted - len(fresh)
            room = self._most_in_all - (len(rows) - len(outdated))
            if missing > room:
                self._make_way(connection, rows, mine, missing - room)
            self._workers.want(connection, target.function_id, target.version,
                               target.fingerprint, min(missing, max(0, room)), self._runner.id)
        if missing > 0:
            self._fleet.tend()

    def _make_way(self, connection: object, rows: list[Worker], mine: list[Worker],
                  count: int) -> None:
        """Let idle workers of other functions go when all places are taken."""
        idle = [worker.name for worker in rows if worker not in mine
                and worker.state == workers.READY and not self._slots.busy(worker.name)]
        self._workers.set_state(connection, idle[:count], workers.DRAINING)  # type: ignore[arg-type]

    def _give_up(self, group: Group, reason: str) -> None:
        """End what waits and can never start."""
        LOG.warning("Function %s (version %s): %s", group.function_id, group.version, reason)
        for claimed in self._queue.claim(self._runner.id, group.function_id, group.version,
                                         group.queued):
            self._executions.finish(claimed.fence, states.error(reason))
