# SPDX-License-Identifier: Apache-2.0
"""One run on one worker: send it, collect its log, judge its outcome."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from qinling_exec import tracing
from qinling_exec.executions import logs, states
from qinling_exec.executions.flusher import Flusher
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.wire import (
    Wire,
    WorkerBusy,
    WorkerLost,
    WorkerRefused,
    WorkerUnreachable,
)
from qinling_exec.orchestrator.workers import Worker

LOG = logging.getLogger(__name__)
#: How much longer than the function's timeout a worker may stay silent, in seconds.
_GRACE_SECONDS = 20.0
#: The worker's last line about a cut comes on top of the log's limit.
_CUT_LINE = 256
#: Between looks whether the last runs have ended, in seconds.
_REST_LOOK = 0.05
#: Runs that are ended at the same time.
_AT_ONCE = 16
#: What a worker may say why a run failed; anything else is "other".
_REASONS = frozenset({"exception", "timeout", "memory", "processes", "exit", "signal", "not-json",
                      "too-large", "cancelled", "error"})
_LOST = ("The worker that ran the function was lost before it answered{}. The function may have"
         " done its work in part.")
#: Said of a run that nobody could end for certain.
UNSURE = " It may go on: nobody could make sure that it has ended, so it is not attempted again."


class NotStarted(Exception):
    """The worker did not take the run; it can be given to another one."""


@dataclass(frozen=True)
class Run:
    """What a worker is told to do."""

    fence: states.Fence
    target: Target
    input: str | None
    request_id: str | None
    global_request_id: str | None = None


@dataclass
class _Going:
    """A run that goes on.

    :param asked: somebody wants the execution to be cancelled.
    :param ending: the worker is being told to end it.
    :param reason: why this process ends it.
    """

    worker: Worker
    asked: bool = False
    ending: bool = False
    reason: str | None = None


class Dispatch:
    """Runs executions on borrowed workers, in the calling thread.

    :param may_start: tells whether a runner's lease holds: what others may have taken over is not
        begun.
    :param on_hung: called with a worker that neither answers nor ends a run; returns when both
        have ended, and raises what keeps it from that.
    :param why_lost: finds out why a worker that broke off is none any more; empty: nobody knows.
    """

    def __init__(self, wire: Wire, slots: Slots, flusher: Flusher, log_size: int,
                 may_start: Callable[[str], bool],
                 on_hung: Callable[[Worker], object],
                 why_lost: Callable[[Worker], str] = lambda worker: "") -> None:
        self._wire = wire
        self._slots = slots
        self._flusher = flusher
        self._log_size = log_size
        self._may_start = may_start
        self._on_hung = on_hung
        self._why_lost = why_lost
        self._lock = threading.Lock()
        self._going: dict[states.Fence, _Going] = {}

    def run(self, run: Run, worker: Worker) -> tuple[states.Outcome, logs.Sink]:
        """Bring a run to its end; the worker's slot is given back.

        :raises NotStarted: the worker had no room or is gone; nothing has happened.
        """
        sink = logs.Sink(run.fence, self._log_size + _CUT_LINE)
        full = suspect = False
        going = _Going(worker)
        with self._lock:
            self._going[run.fence] = going
        self._flusher.add(sink)
        try:
            if not self._may_start(run.fence.runner_id):
                raise NotStarted("The lease does not hold.")
            with tracing.work("worker", run.request_id, execution_id=run.fence.execution_id,
                              attempt=run.fence.attempt, worker=worker.name):
                answer = self._wire.execute(worker, _request(run),
                                            run.target.timeout + _GRACE_SECONDS, sink.write)
            return _judge(answer, going.asked, going.reason), sink
        except WorkerBusy as error:
            full = True
            raise NotStarted(str(error)) from error
        except (WorkerUnreachable, WorkerRefused) as error:
            suspect = True
            LOG.info("Worker %s did not take execution %s: %s", worker.name,
                     run.fence.execution_id, error)
            raise NotStarted(str(error)) from error
        except WorkerLost as error:
            LOG.warning("Worker %s was lost with execution %s: %s", worker.name,
                        run.fence.execution_id, error)
            why = "" if going.ending else self._why_lost(worker)
            certain = self._end_on(worker, run.fence)
            if going.asked:
                return states.cancelled(), sink
            reason = going.reason or _LOST.format(f": {why}" if why else "")
            return states.error(reason if certain else reason + UNSURE, "worker-lost",
                                final=not certain), sink
        finally:
            self._flusher.remove(sink)
            with self._lock:
                del self._going[run.fence]
            if suspect:
                self._slots.suspect(worker)
            self._slots.give_back(worker, full)

    def _end_on(self, worker: Worker, fence: states.Fence) -> bool:
        """See that a run has ended, with its worker if that does not answer.

        Then it may be begun again elsewhere, and whoever cancelled it need not wait for a timeout.

        :returns: False when it may go on.
        """
        if self._wire.cancel(worker, fence.execution_id):
            return True
        try:
            self._on_hung(worker)
        except Exception as error:
            LOG.warning("Worker %s could not be given up: %s", worker.name, error)
            return False
        return True

    def has(self, execution_id: str) -> bool:
        """Tell whether an execution runs here."""
        with self._lock:
            return any(fence.execution_id == execution_id for fence in self._going)

    def fences(self) -> list[states.Fence]:
        """Return what runs here and is not being ended."""
        with self._lock:
            return [fence for fence, going in self._going.items() if not going.ending]

    def mark(self, fence: states.Fence, asked: bool, reason: str | None = None) -> bool:
        """Note that a run is to be ended; tell whether it goes on and :meth:`end` is to be called.

        :param asked: its execution is to be cancelled; otherwise it is gone.
        """
        with self._lock:
            going = self._going.get(fence)
            if going is None or going.ending:
                return False
            going.ending, going.asked, going.reason = True, asked, reason
            return True

    def end(self, fence: states.Fence) -> None:
        """End a run that was marked; returns when the worker has done so, or can't."""
        with self._lock:
            going = self._going.get(fence)
        if going is None:
            return
        self._end_on(going.worker, fence)
        with self._lock:  # what goes on all the same is told again at the next look
            going.ending = False

    def end_all(self, reason: str) -> None:
        """End every run of this process, many at a time; returns when they have ended, or can't.

        :param reason: what their executions say about it.
        """
        fences = [fence for fence in self.fences() if self.mark(fence, False, reason)]
        if fences:
            with ThreadPoolExecutor(min(len(fences), _AT_ONCE), "end-run") as pool:
                list(pool.map(self.end, fences))

    def end_rest(self, reason: str, seconds: float) -> bool:
        """End every run, those too that are just about to begin; tell whether none is left."""
        until = time.monotonic() + seconds
        while self._going and time.monotonic() < until:
            self.end_all(reason)
            time.sleep(_REST_LOOK)
        return not self._going

    @property
    def running(self) -> int:
        """How many runs this process has."""
        return len(self._going)


def arguments(given: str | None) -> Any:
    """Return an execution's input as the worker passes it on.

    As Qinling: a JSON object becomes keyword arguments, nothing (or JSON null) no argument,
    and any other text is itself the one positional argument.

    :raises ValueError: the object uses Qinling's reserved key for something else than text.
    """
    if given is None or given == "":
        return None
    try:
        value = json.loads(given)
    except (ValueError, RecursionError):
        return given
    if value is None:
        return None
    if not isinstance(value, dict):
        return given
    if "__function_input" in value:
        if not isinstance(value["__function_input"], str):
            raise ValueError("__function_input is a reserved key that takes a text.")
        return value["__function_input"]
    return value


def _request(run: Run) -> dict[str, Any]:
    return {
        "execution_id": run.fence.execution_id, "attempt": run.fence.attempt,
        "function_id": run.target.function_id, "function_version": run.target.version,
        "input": arguments(run.input), "timeout": run.target.timeout,
        "request_id": run.request_id, "global_request_id": run.global_request_id,
    }


def _judge(answer: dict[str, Any], asked: bool = False,
           reason: str | None = None) -> states.Outcome:
    """Turn a worker's answer into an outcome; workers are not trusted to be well-formed.

    :param asked: somebody wants the execution to be cancelled.
    """
    if answer.get("reason") == "cancelled":
        if asked:
            return states.cancelled(_duration(answer))
        return states.error(reason or "The run was ended because its execution is gone.")
    result = {"output": answer.get("output"), "duration": _duration(answer)}
    success = answer.get("success") is True
    if success:
        return states.Outcome(states.SUCCESS, result)
    why = str(answer.get("reason"))
    return states.Outcome(states.FAILED, result, why if why in _REASONS else "other")


def _duration(answer: dict[str, Any]) -> float:
    """Return the seconds that a run took by its worker's word, 0 when that is no such number."""
    duration = answer.get("duration", 0)
    # An integer of any length and a float compare exactly; NaN is neither more nor less.
    sane = type(duration) in (int, float) and 0 <= duration <= sys.float_info.max
    return duration if sane else 0
