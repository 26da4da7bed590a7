# SPDX-License-Identifier: Apache-2.0
"""Executions of functions that are made of an image: each attempt is a run of its own."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from qinling_exec import context, exceptions, faultpoint, metrics, tracing
from qinling_exec.db.engine import Database
from qinling_exec.executions import arguments, logs, states
from qinling_exec.executions.attempts import Repeat
from qinling_exec.executions.ending import Ending
from qinling_exec.executions.flusher import Flusher
from qinling_exec.executions.holdings import Holdings
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.queue import Claimed, Group, Queue
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator import base

LOG = logging.getLogger(__name__)
#: The last line about a cut comes on top of the log's limit.
_CUT_LINE = 256
#: That the threads of runs which were left may take to end, in seconds.
_LEAVE_SECONDS = 10.0
#: Between looks for a run that a dead engine has begun, in seconds.
_FIND_SECONDS = 1.0


class _Left(Exception):
    """This process looks after a run no more; the run goes on."""


@dataclass
class _Going:
    """A run that goes on.

    :param begun: it is there, so that it can be ended.
    :param asked: somebody wants the execution to be cancelled.
    :param over: how it ended is known.
    :param left: set when this process is to look after it no more.
    """

    project_id: str
    thread: threading.Thread
    begun: bool = False
    asked: bool = False
    ending: bool = False
    over: bool = False
    left: threading.Event = field(default_factory=threading.Event)


class Images:
    """What one engine runs of images, each run in a thread. The runs outlive the engine.

    :param log_size: bytes that are kept of what a run prints.
    :param most: runs that are begun at the same time; what a dead engine had comes on top.
    :param on_free: called when a run has ended.
    """

    def __init__(self, database: Database, driver: base.Images, runner: Runner, ending: Ending,
                 holdings: Holdings, flusher: Flusher, log_size: int, most: int,
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
        self._queue = Queue(database)
        self._lock = threading.Lock()
        self._going: dict[states.Fence, _Going] = {}
        self._stopping = False

    @property
    def most(self) -> int:
        """How many runs there may be now."""
        return self._most if self._driver.ready and not self._stopping else 0

    def running(self) -> Counter[str]:
        """Count the runs of this engine by project."""
        with self._lock:
            return Counter(going.project_id for going in self._going.values())

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

    def adopt(self, fence: states.Fence, project_id: str, otherwise: states.Outcome) -> None:
        """Go on with a run that a dead engine has begun.

        :param fence: of the execution, which is this engine's by now.
        :param otherwise: how the attempt ends when there is no such run.
        :raises qinling_exec.exceptions.Unavailable: another engine has to.
        """
        if self._stopping:
            raise exceptions.Unavailable("The engine ends.")
        self._holdings.hold(fence.execution_id)
        self._start(fence, project_id, self._go_on, otherwise)

    def has(self, execution_id: str) -> bool:
        """Tell whether an execution runs here."""
        with self._lock:
            return any(fence.execution_id == execution_id for fence in self._going)

    def fences(self) -> list[states.Fence]:
        """Return what runs here and is not being ended."""
        with self._lock:
            return [fence for fence, going in self._going.items()
                    if not (going.ending or going.over or going.left.is_set())]

    def mark(self, fence: states.Fence, asked: bool) -> bool:
        """Note that a run is to be ended; tell whether it goes on and :meth:`end` is to be called.

        :param asked: its execution is to be cancelled. Otherwise it is gone, or another engine's:
            this one looks after the run no more.
        """
        with self._lock:
            going = self._going.get(fence)
            if going is None or going.ending:
                return False
            going.asked = asked
            if not asked or not going.begun:
                going.left.set()
                return False
            going.ending = True
            return True

    def end(self, fence: states.Fence) -> None:
        """End a run that was marked; returns when it is gone, or can't be ended."""
        try:
            self._driver.end((fence.execution_id, fence.attempt))
        except base.OrchestratorError as error:
            LOG.warning("Execution %s can't be ended: %s", fence.execution_id, error)
        with self._lock:
            going = self._going.get(fence)
            if going is not None:  # it is told again at the next look
                going.ending = False

    def leave(self) -> None:
        """Leave every run to other engines: they take it over when this one has signed off."""
        with self._lock:
            self._stopping = True
            left = list(self._going.values())
            for going in left:
                going.left.set()
        for going in left:
            going.thread.join(_LEAVE_SECONDS)

    def _start(self, fence: states.Fence, project_id: str, work: Callable[..., None],
               *details: object) -> None:
        thread = threading.Thread(target=self._guard, args=(fence, work, *details),
                                  name="image-run", daemon=True)
        with self._lock:
            self._going[fence] = _Going(project_id, thread)
            if self._stopping:
                self._going[fence].left.set()
        thread.start()

    def _guard(self, fence: states.Fence, work: Callable[..., None], *details: object) -> None:
        """Do the work of a run's thread, and let go of the execution."""
        try:
            work(fence, self._going[fence], *details)
        except _Left:
            LOG.info("Execution %s, attempt %s, goes on without this engine.",
                     fence.execution_id, fence.attempt)
            if self._stopping:
                return  # it stays this runner's, until that signs off
        except Exception:
            self._ending.abandon(fence)
        finally:
            with self._lock:
                del self._going[fence]
        self._holdings.let_go(fence.execution_id)
        self._on_free()

    def _run(self, fence: states.Fence, going: _Going, claimed: Claimed, target: Target) -> None:
        context.of_execution(claimed.request_id, claimed.project_id)
        faultpoint.reach("worker-taken")
        tracing.waited("queue", claimed.request_id, claimed.created_at,
                       execution_id=fence.execution_id, attempt=fence.attempt)
        with tracing.work("run", claimed.request_id, execution_id=fence.execution_id,
                          attempt=fence.attempt):
            log_begin = self._log_size_of(fence) if fence.attempt > 1 else 0
            if self._begin(fence, going, claimed, target, log_begin):
                sink = logs.Sink(fence, self._log_size + _CUT_LINE)
                self._bring_to_end(fence, going, sink, 0, claimed.sync)

    def _begin(self, fence: states.Fence, going: _Going, claimed: Claimed, target: Target,
               log_begin: int) -> bool:
        """Begin a run; False: it is dealt with."""
        assert target.image is not None
        try:
            run = base.ImageRun((fence.execution_id, fence.attempt), target.image,
                                arguments.of_image(claimed.input), target.cpu, target.memory_size,
                                target.timeout, log_begin)
            if going.left.is_set() or not self._runner.holds(fence.runner_id):
                raise base.OrchestratorUnavailable("The lease does not hold.")
            self._driver.begin(run, going.left)
        except base.OrchestratorUnavailable as error:
            # Should it have been begun all the same, whoever claims it next finds that.
            LOG.warning("Execution %s can't be begun now: %s", fence.execution_id, error)
            self._ending.put_back(fence, claimed.started_at)
            return False
        except (base.OrchestratorError, exceptions.InputError) as error:
            text = f"The function's pod could not be made. {error}"
            self._ending.finish(fence, states.error(text, "start"), awaited=claimed.sync)
            return False
        self._note_begun(fence, going)
        return True

    def _note_begun(self, fence: states.Fence, going: _Going) -> None:
        """Let a run be ended from now on, and at once if somebody has wanted that meanwhile."""
        with self._lock:
            going.begun = True
            asked = going.asked and not self._stopping
            if asked:
                going.left.clear()
        if asked:
            self.end(fence)

    def _go_on(self, fence: states.Fence, going: _Going, otherwise: states.Outcome) -> None:
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
        self._bring_to_end(fence, going, sink, known, True)

    def _find(self, fence: states.Fence, going: _Going) -> int | None:
        """Look for a run until it is certain whether it is there; return where its log begins."""
        while True:
            try:
                return self._driver.log_begin((fence.execution_id, fence.attempt))
            except base.OrchestratorUnavailable as error:
                LOG.info("Execution %s can't be looked for now: %s", fence.execution_id, error)
            if going.left.wait(_FIND_SECONDS):
                raise _Left

    def _bring_to_end(self, fence: states.Fence, going: _Going, sink: logs.Sink, known: int,
                      awaited: bool) -> None:
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

    def _log_size_of(self, fence: states.Fence) -> int:
        with self._database.reader() as connection:
            return logs.size(connection, fence.execution_id)


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
