# SPDX-License-Identifier: Apache-2.0
"""One run on one worker: send it, collect its log, judge its outcome."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from typing import Any

from qinling_exec.executions import logs, states
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


class NotStarted(Exception):
    """The worker did not take the run; it can be given to another one."""


@dataclass(frozen=True)
class Run:
    """What a worker is told to do."""

    fence: states.Fence
    target: Target
    input: str | None
    request_id: str | None


class Dispatch:
    """Runs executions on borrowed workers, in the calling thread."""

    def __init__(self, wire: Wire, slots: Slots, flusher: logs.Flusher, log_size: int) -> None:
        self._wire = wire
        self._slots = slots
        self._flusher = flusher
        self._log_size = log_size
        self._lock = threading.Lock()
        self._going: dict[str, Worker] = {}

    def run(self, run: Run, worker: Worker) -> tuple[states.Outcome, logs.Sink]:
        """Bring a run to its end; the worker's slot is given back.

        :raises NotStarted: the worker had no room or is gone; nothing has happened.
        """
        sink = logs.Sink(run.fence, self._log_size + _CUT_LINE)
        full = suspect = False
        self._note(run.fence.execution_id, worker)
        self._flusher.add(sink)
        try:
            answer = self._wire.execute(worker, _request(run),
                                        run.target.timeout + _GRACE_SECONDS, sink.write)
            return _judge(answer), sink
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
            return states.error("The worker that ran the function was lost before it answered."
                                " The function may have done its work in part."), sink
        finally:
            self._flusher.remove(sink)
            self._note(run.fence.execution_id, None)
            if suspect:
                self._slots.suspect(worker)
            self._slots.give_back(worker, full)

    def cancel(self, execution_id: str) -> bool:
        """End a run of this process; False when it is not one."""
        with self._lock:
            worker = self._going.get(execution_id)
        if worker is None:
            return False
        self._wire.cancel(worker, execution_id)
        return True

    def cancel_all(self) -> None:
        """End every run of this process: its lease is lost."""
        with self._lock:
            going = list(self._going)
        for execution_id in going:
            self.cancel(execution_id)

    @property
    def running(self) -> int:
        """How many runs this process has."""
        return len(self._going)

    def _note(self, execution_id: str, worker: Worker | None) -> None:
        with self._lock:
            if worker is None:
                self._going.pop(execution_id, None)
            else:
                self._going[execution_id] = worker


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
        "request_id": run.request_id,
    }


def _judge(answer: dict[str, Any]) -> states.Outcome:
    """Turn a worker's answer into an outcome; workers are not trusted to be well-formed."""
    if answer.get("reason") == "cancelled":
        return states.error("The run was ended because its execution is gone.")
    result = {"output": answer.get("output"), "duration": answer.get("duration", 0)}
    success = answer.get("success") is True
    return states.Outcome(states.SUCCESS if success else states.FAILED, result)
