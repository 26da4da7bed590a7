# SPDX-License-Identifier: Apache-2.0
"""Executions of functions that are made of an image: each attempt is a run of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from qinling_exec import context, exceptions, faultpoint, metrics, tracing
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.executions import arguments, logs, states
from qinling_exec.executions.attempts import Repeat
from qinling_exec.executions.ending import Ending
from qinling_exec.executions.flusher import Flusher
from qinling_exec.executions.goings import Going, Goings
from qinling_exec.executions.holdings import Holdings
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.queue import Claimed, Group, Queue
from qinling_exec.executions.room import Room
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator import base

LOG = logging.getLogger(__name__)
#: The last line about a cut comes on top of the log's limit.
_CUT_LINE = 256
#: That the threads of runs which were left may take to end, in seconds.
_LEAVE_SECONDS = 10.0
_NO_POD = "The function's pod could not be made. {}"
#: Between looks for a run that a dead engine has begun, in seconds.
_FIND_SECONDS = 1.0


class _Left(Exception):
    """This process looks after a run no more; the run goes on."""


class Images:
    """What one engine runs of images, each run in a thread. The runs outlive the engine.

    :param log_size: bytes that are kept of what a run prints.
    :param most: runs that are begun at the same time; what a dead engine had comes on top.
    :param room: knows whose runs find none.
    :param on_free: called when a run has ended.
    """

    def __init__(self, database: Database, driver: base.Images, runner: Runner, ending: Ending,
                 holdings: Holdings, flusher: Flusher, log_size: int, most: int, room: Room,
                 on_free: Callable[[], object]) -> None:
        self._database = database
        self._driver = driver
        self._runner = runner
        self._ending = ending
        self._holdings = holdings
        self._flusher = flusher
        self._log_size = log_size
        self._most = most
        self._on_free = on_free
        self._room = room
        self._queue = Queue(database)
        self._going = Goings()
        self.running, self.has = self._going.by_project, self._going.has
        self.fences, self.mark = self._going.fences, self._going.mark
        driver.listen(self._note_room)

    @property
    def most(self) -> int:
        """How many runs there may be now."""
        return self._most if self._driver.ready and not self._going.stopping else 0

    def most_of(self, target: Target) -> int:
        """How many executions of a version may be claimed now: few where there is no room."""
        return self._room.most(_key(target))

    @property
    def has_waiting(self) -> bool:
        """True when there is a run here without room."""
        return bool(self.running() and self._going.projects(self._driver.waiting()))

    def crowded(self, waiting: Mapping[Group, Target]) -> list[str]:
        """Return whose runs find no room, one for each that was begun, and for each version.

        :param waiting: versions that have executions in the queue.
        """
        if self._room.just_freed:
            return []
        begun = self._going.projects(self._driver.waiting())
        return begun + [group.project_id for group, target in waiting.items()
                        if target.image is not None and self._room.wants(_key(target))]

    def why_waiting(self, target: Target) -> str:
        """Return why runs of a version found no room the last time; empty: they did."""
        return self._room.reason(_key(target))

    def begin(self, group: Group, target: Target, count: int) -> None:
        """Claim so many executions of a group and run them."""
        self._runner.beat()
        with self._holdings.claiming():
            claimed = self._queue.claim(self._runner.id, group, [None] * count)
            for item in claimed:
                self._holdings.hold(item.fence.execution_id)
        metrics.CLAIMS.labels("engine").inc(len(claimed))
        if claimed:
            faultpoint.reach("claimed")
        for item in claimed:
            self._start(item.fence, item.project_id, self._run, item, target)

    def adopt(self, fence: states.Fence, project_id: str, started_at: datetime | None,
              otherwise: states.Outcome) -> None:
        """Go on with a run that a dead engine has begun.

        :param fence: of the execution, which is this engine's by now.
        :param started_at: as its record says.
        :param otherwise: how the attempt ends when there is no such run.
        :raises qinling_exec.exceptions.Unavailable: another engine has to.
        """
        if self._going.stopping:
            raise exceptions.Unavailable("The engine ends.")
        self._holdings.hold(fence.execution_id)
        self._start(fence, project_id, self._go_on, started_at, otherwise)

    def end(self, fence: states.Fence) -> None:
        """End a run that was marked; returns when it is gone, or can't be ended."""
        try:
            self._driver.end((fence.execution_id, fence.attempt))
        except base.OrchestratorError as error:
            LOG.warning("Execution %s can't be ended: %s", fence.execution_id, error)
        self._going.told(fence)

    def leave(self) -> None:
        """Leave every run to other engines: they take it over when this one has signed off."""
        self._going.leave(_LEAVE_SECONDS)

    def _note_room(self) -> None:
        self._room.freed()
        self._on_free()

    def _start(self, fence: states.Fence, project_id: str, work: Callable[..., None],
               *details: object) -> None:
        self._going.start(fence, project_id, threading.Thread(
            target=self._guard, args=(fence, work, *details), name="image-run", daemon=True))

    def _guard(self, fence: states.Fence, work: Callable[..., None], *details: object) -> None:
        """Do the work of a run's thread, and let go of the execution."""
        try:
            work(fence, self._going.get(fence), *details)
        except _Left:
            LOG.info("Execution %s, attempt %s, goes on without this engine.",
                     fence.execution_id, fence.attempt)
            if self._going.stopping:
                return  # it stays this runner's, until that signs off
        except Exception:
            self._ending.abandon(fence)
        finally:
            self._going.remove(fence)
        self._holdings.let_go(fence.execution_id)
        self._on_free()

    def _run(self, fence: states.Fence, going: Going, claimed: Claimed, target: Target) -> None:
        context.of_execution(claimed.request_id, claimed.global_request_id, claimed.project_id)
        faultpoint.reach("worker-taken")
        tracing.waited("queue", claimed.request_id, claimed.created_at,
                       execution_id=fence.execution_id, attempt=fence.attempt)
        with tracing.work("run", claimed.request_id, execution_id=fence.execution_id,
                          attempt=fence.attempt):
            log_begin = self._log_size_of(fence) if fence.attempt > 1 else 0
            if self._begin(fence, going, claimed, target, log_begin):
                sink = logs.Sink(fence, self._log_size + _CUT_LINE)
                self._bring_to_end(fence, going, sink, 0, claimed.sync, claimed.started_at)

    def _begin(self, fence: states.Fence, going: Going, claimed: Claimed, target: Target,
               log_begin: int) -> bool:
        """Begin a run; False: it is dealt with."""
        assert target.image is not None
        try:
            run = base.ImageRun((fence.execution_id, fence.attempt), target.image,
                                arguments.of_image(claimed.input), target.cpu, target.memory_size,
                                target.timeout, log_begin)
            if going.left.is_set() or not self._runner.holds(fence.runner_id):
                raise base.OrchestratorUnavailable("The lease does not hold.")
            self._driver.begin(run)
        except base.OrchestratorFull as error:
            self._wait_for_room(claimed, target, error)
            return False
        except base.OrchestratorUnavailable as error:
            # Should it have been begun all the same, whoever claims it next finds that.
            LOG.warning("Execution %s can't be begun now: %s", fence.execution_id, error)
            self._ending.put_back(fence, claimed.started_at, claimed.project_id)
            return False
        except (base.OrchestratorError, exceptions.InputError) as error:
            outcome = states.error(_NO_POD.format(error), "start")
            self._ending.finish(fence, outcome, awaited=claimed.sync)
            return False
        self._room.found(_key(target))
        self._note_begun(fence, going)
        return True

    def _wait_for_room(self, claimed: Claimed, target: Target,
                       error: base.OrchestratorFull) -> None:
        """Let an execution wait in the queue, unless that is in vain."""
        waited = (utcnow() - claimed.created_at).total_seconds()
        if self._room.refused(_key(target), str(error), error.moves, waited):
            outcome = states.error(_NO_POD.format(error), "start")
            self._ending.finish(claimed.fence, outcome, awaited=claimed.sync)
            return
        LOG.info("Execution %s waits for room: %s", claimed.fence.execution_id, error)
        self._ending.put_back(claimed.fence, claimed.started_at)

    def _note_begun(self, fence: states.Fence, going: Going) -> None:
        """Let a run be ended from now on, and at once if somebody has wanted that meanwhile."""
        if self._going.note_begun(going):
            self.end(fence)

    def _go_on(self, fence: states.Fence, going: Going, started_at: datetime | None,
               otherwise: states.Outcome) -> None:
        log_begin = self._find(fence, going)
        if log_begin is None:
            self._ending.finish(fence, otherwise, awaited=True)
            return
        LOG.info("Execution %s, attempt %s, goes on: its pod is there.", fence.execution_id,
                 fence.attempt)
        self._note_begun(fence, going)
        stored = self._log_size_of(fence) - log_begin
        known = max(0, stored - len(logs.heading(fence.attempt)))
        sink = logs.Sink(fence, max(0, self._log_size + _CUT_LINE - known), resumed=stored > 0)
        self._bring_to_end(fence, going, sink, known, True, started_at)

    def _find(self, fence: states.Fence, going: Going) -> int | None:
        """Look for a run until it is certain whether it is there; return where its log begins."""
        while True:
            try:
                return self._driver.log_begin((fence.execution_id, fence.attempt))
            except base.OrchestratorUnavailable as error:
                LOG.info("Execution %s can't be looked for now: %s", fence.execution_id, error)
            if going.left.wait(_FIND_SECONDS):
                raise _Left

    def _bring_to_end(self, fence: states.Fence, going: Going, sink: logs.Sink, known: int,
                      awaited: bool, started_at: datetime | None) -> None:
        """Follow a run, store how it ended, and only then forget it."""
        attempt = (fence.execution_id, fence.attempt)
        self._flusher.add(sink)
        try:
            end = self._driver.follow(attempt, logs.Cut(sink, self._log_size, known).write, known,
                                      going.left)
        finally:
            self._flusher.remove(sink)
        if end is None:
            raise _Left
        if end.status == states.RUNNING:
            self._put_back(fence, going, started_at)
            return
        going.over = True
        settled = self._ending.finish(fence, _judge(end, going.asked), sink, awaited=awaited,
                                      repeat=Repeat.LATER)
        faultpoint.reach("committed")
        if settled is None or settled.kept:
            return  # another's, or not stored yet: reconciling ends it when that is done
        try:
            self._driver.end(attempt)
        except base.OrchestratorError as error:
            LOG.warning("What execution %s ran in stays for now: %s", fence.execution_id, error)

    def _put_back(self, fence: states.Fence, going: Going,
                  started_at: datetime | None) -> None:
        """Return an execution to the queue whose run never found a place, once it is gone."""
        LOG.info("Execution %s waits for room: its pod found no place.", fence.execution_id)
        while True:
            try:
                self._driver.end((fence.execution_id, fence.attempt))
                break
            except base.OrchestratorError as error:
                LOG.warning("Execution %s can't wait anew: %s", fence.execution_id, error)
            if going.left.wait(_FIND_SECONDS):
                raise _Left
        self._ending.put_back(fence, started_at)

    def _log_size_of(self, fence: states.Fence) -> int:
        with self._database.reader() as connection:
            return logs.size(connection, fence.execution_id)


def _key(target: Target) -> tuple[object, ...]:
    """Return what needs the same room."""
    return target.function_id, target.version, target.cpu, target.memory_size


def _judge(end: base.ImageEnd, asked: bool) -> states.Outcome:
    """Turn the end of a run into an outcome. Its result is what Qinling's is: a success has no
    output, because what the program prints is the log.

    :param asked: somebody wanted the execution to be cancelled.
    """
    if asked and end.status == states.ERROR:
        return states.cancelled(end.duration)
    result: dict[str, object] = {} if end.text is None else {"output": end.text}
    if end.duration is not None:
        result["duration"] = end.duration
    return states.Outcome(end.status, result, end.reason)
