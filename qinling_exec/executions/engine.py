# SPDX-License-Identifier: Apache-2.0
"""The engine: claims queued executions and sees that they have workers."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from qinling_exec import context, faultpoint, metrics, tracing
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.db.wakeup import IDLE_SECONDS, QUEUE, Pace, Wakeup
from qinling_exec.executions import dispatch, shares
from qinling_exec.executions.attempts import Repeat
from qinling_exec.executions.dispatch import Dispatch
from qinling_exec.executions.ending import Ending
from qinling_exec.executions.holdings import Holdings
from qinling_exec.executions.images import Images
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.planning import Planning, View
from qinling_exec.executions.queue import Claimed, Group, Queue
from qinling_exec.executions.reaper import Reaper
from qinling_exec.executions.retention import Periodic
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator.fleet import Fleet
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.workers import Worker

LOG = logging.getLogger(__name__)
_GONE = "The function, or this version of it, was deleted before the execution started."
_NO_IMAGES = ("The function is made of a container image. That needs the Kubernetes orchestrator;"
              " this service runs functions as local processes.")
_STOPPED = ("The engine that ran the execution was stopped before the function answered. The"
            " function may have done its work in part.")
#: Executions that are given up in one transaction.
_GIVEN_UP = 100
#: That the workers get to end the runs that a drain leaves, in seconds.
_END_SECONDS = 10.0
#: Between looks whether a drain is over, in seconds.
_DRAIN_LOOK = 0.1


class Engine:
    """One engine. Its loop decides, its threads run. Any number of them may be there.

    :param options: the group [engine]; what is mutable in it is read when it is needed.
    """

    def __init__(self, database: Database, wakeup: Wakeup, runner: Runner, reaper: Reaper,
                 fleet: Fleet, slots: Slots, planning: Planning, ending: Ending,
                 holdings: Holdings, dispatcher: Dispatch, images: Images | None,
                 retention: Periodic, options: Any) -> None:
        self._wakeup = wakeup
        self._runner = runner
        self._reaper = reaper
        self._fleet = fleet
        self._slots = slots
        self._planning = planning
        self._ending = ending
        self._holdings = holdings
        self._dispatch = dispatcher
        self._images = images
        self._retention = retention
        self._options = options
        self._queue = Queue(database)
        self._threads: int = options.run_threads
        # Made as they are needed. A look and newcomers may take the same ones to be free.
        self._pool = ThreadPoolExecutor(2 * self._threads, thread_name_prefix="run")
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()  # runs of this engine by project
        self._queueing: set[str] = set()  # projects that have something in the queue
        wakeup.listen(QUEUE, lambda project_id: self._queueing.add(project_id))
        self._stop = threading.Event()
        self._repeat = Repeat.LATER
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="engine")

    def start(self) -> None:
        """Begin to work."""
        self._runner.beat()
        self._thread.start()
        self._reaper.start()
        self._retention.start()

    def wait_ready(self, seconds: float) -> bool:
        """Wait until queued executions can be claimed and run; tell whether that is so."""
        return self._ready.wait(seconds)

    def reserve(self, project_id: str) -> bool:
        """Take a thread for an execution that comes, if its project has no others here or waiting.

        Such a one need not wait for a look at the queue. The last eighth of the threads is for
        projects of the queue. :meth:`begin` or :meth:`release` follows.
        """
        most = self._threads - self._threads // shares.RESERVE
        with self._lock:
            if (self._stop.is_set() or self._running[project_id] or project_id in self._queueing
                    or self._running.total() >= most):
                return False
            self._running[project_id] += 1
            return True

    def release(self, project_id: str) -> None:
        """Give a thread back."""
        with self._lock:
            self._running[project_id] -= 1
            self._running += Counter()  # without those that have none

    def begin(self, claimed: Claimed, target: Target, worker: Worker) -> None:
        """Run an execution on a worker's slot, in a thread that was reserved for it."""
        self._holdings.hold(claimed.fence.execution_id)
        self._pool.submit(self._run, claimed, target, worker)

    def stop(self, others: bool = True) -> None:
        """Drain: claim nothing more, let what runs end, hand over the rest, end the workers.

        :param others: other processes may have runs on this engine's workers; those may end too.
        """
        self._stop.set()
        self._wakeup.ring()
        self._thread.join()
        self._runner.rest()
        self._retention.stop()
        self._fleet.drain()
        until = time.monotonic() + self._options.drain_seconds
        while time.monotonic() < until and not self._is_drained(others):
            time.sleep(_DRAIN_LOOK)
        self._repeat = Repeat.AT_ONCE
        self._reaper.stop()
        if not self._dispatch.end_rest(_STOPPED, _END_SECONDS):
            LOG.error("Some runs do not end; they go with their workers.")
        if self._images is not None:
            self._images.leave()
        self._fleet.close()
        self._pool.shutdown(wait=True)

    def _is_drained(self, others: bool) -> bool:
        try:
            self._fleet.tend()
            return not self._running.total() and (self._fleet.idle or not others)
        except Exception as error:
            LOG.warning("The engine drains without the database: %s", error)
            return not self._running.total()

    def _loop(self) -> None:
        pace, pause, rest = Pace(self._wakeup), 0.0, 0.0
        while not self._stop.is_set():
            self._wakeup.wait(pause, rest)
            self._runner.beat()
            began = time.monotonic()
            try:
                self._slots.on_free = None
                pause = pace.after(self._turn())
                rest = min(pause, time.monotonic() - began)
            except Exception as error:
                LOG.warning("The engine goes on after an error: %s", error,
                            exc_info=not getattr(error, "code", None))
                pause = IDLE_SECONDS

    def _turn(self) -> bool:
        """Do what is to do; tell whether anything waits."""
        if not self._ready.is_set():
            self._fleet.tend()
            self._runner.beat()
            if not self._fleet.ready:
                return False
            self._ready.set()
        try:
            return self._runner.valid and self._serve_queue()
        finally:  # last: it starts the workers that were just found to be wanted
            self._fleet.tend()

    def _serve_queue(self) -> bool:
        """Run what waits, and ask for the workers that it lacks; tell whether anything waits."""
        without_room = self._images is not None and self._images.has_waiting
        view = self._planning.look(without_room)
        self._queueing = {group.project_id for group in view.groups}
        self._give_up(view)
        with self._lock:
            running = Counter(self._running)
        claims = self._planning.claims(view, running, self._threads)
        # Who has something already can wait for the end of a rest, and others need not.
        self._wakeup.crowd = {item.project_id for item in view.running} | {
            group.project_id for group in view.groups
            if view.waiting[group] > len(claims.get(group, ()))}
        for group, chosen in claims.items():
            self._start_runs(group, view.targets[group], chosen)
        if self._images is not None:
            runs = self._planning.image_runs(view, self._images.running(), self._images.most,
                                             self._images.most_of)
            for group, count in runs.items():
                self._images.begin(group, view.targets[group], count)
        crowded = self._images.crowded(view.targets) if self._images is not None else ()
        self._planning.want_workers(view, crowded)
        if view.groups:
            self._slots.on_free = self._wakeup.wake
        return bool(view.groups)

    def _start_runs(self, group: Group, target: Target, chosen: list[Worker]) -> None:
        """Claim as many executions as workers were chosen, and run them."""
        self._runner.beat()
        with self._holdings.claiming():
            try:
                claimed = self._queue.claim(self._runner.id, group,
                                            [worker.name for worker in chosen])
            except BaseException:
                for worker in chosen:
                    self._slots.give_back(worker)
                raise
            for item in claimed:
                self._holdings.hold(item.fence.execution_id)
        metrics.CLAIMS.labels("engine").inc(len(claimed))
        if claimed:
            faultpoint.reach("claimed")
        there = {worker.name: worker for worker in chosen}
        spare = list(chosen)
        for item in claimed:
            worker = there[item.worker or ""]
            spare.remove(worker)
            with self._lock:
                self._running[item.project_id] += 1
            self._pool.submit(self._run, item, target, worker)
        for worker in spare:
            self._slots.give_back(worker)

    def _run(self, claimed: Claimed, target: Target, worker: Worker) -> None:
        fence = claimed.fence
        context.of_execution(claimed.request_id, claimed.global_request_id, claimed.project_id)
        run = dispatch.Run(fence, target, claimed.input, claimed.request_id,
                           claimed.global_request_id)
        try:
            faultpoint.reach("worker-taken")
            if claimed.started_at != claimed.created_at:  # else it was begun with its record
                tracing.waited("queue", claimed.request_id, claimed.created_at,
                               execution_id=fence.execution_id, attempt=fence.attempt)
            with tracing.work("run", claimed.request_id, execution_id=fence.execution_id,
                              attempt=fence.attempt):
                outcome, sink = self._dispatch.run(run, worker)
                self._ending.finish(fence, outcome, sink, awaited=claimed.sync,
                                    repeat=self._repeat)
        except dispatch.NotStarted:
            self._ending.put_back(fence, claimed.started_at, claimed.project_id)
        except Exception:
            self._ending.abandon(fence)
        finally:
            self._holdings.let_go(fence.execution_id)
            self.release(claimed.project_id)

    def _give_up(self, view: View) -> None:
        """End what waits and can never start, or has waited too long."""
        most: int = self._options.max_age
        oldest = utcnow() - timedelta(seconds=most)
        for group in list(view.groups):
            target = view.targets.get(group)
            reason = None if target is None else self._fleet.failure(target.fingerprint)
            if target is None:
                self._end(group, _GONE)
                view.groups.remove(group)
            elif target.image is not None and self._images is None:
                self._end(group, _NO_IMAGES)
                view.groups.remove(group)
            elif reason is not None:
                self._end(group, f"No worker could be started for the function: {reason}")
                view.groups.remove(group)
            elif group.oldest < oldest:
                why = "" if target.image is None or self._images is None else (
                    self._images.why_waiting(target))
                self._end(group, f"The execution could not be started within {most} seconds, which"
                                 f" is as long as one may wait here. {why}".strip(), oldest)

    def _end(self, group: Group, reason: str, before: datetime | None = None) -> None:
        count = self._ending.give_up(group, reason, _GIVEN_UP, before)
        if count:
            LOG.warning("Function %s (version %s): %s executions have ended: %s",
                        group.function_id, group.version, count, reason)
