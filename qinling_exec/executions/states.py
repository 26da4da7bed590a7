# SPDX-License-Identifier: Apache-2.0
"""States of an execution, and what a run ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Accepted and not ended: queued or on a worker.
RUNNING = "running"
SUCCESS = "success"
#: The function's fault: it raised, ran out of time or memory, returned what isn't JSON.
FAILED = "failed"
#: The service's fault: no worker could be had, the worker was lost.
ERROR = "error"
#: Somebody asked for it to be ended.
CANCELLED = "cancelled"

ENDED = frozenset({SUCCESS, FAILED, ERROR, CANCELLED})
#: Every state; lists merge the rows of each.
ALL = (RUNNING, *sorted(ENDED))


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    :param result: JSON object with ``output`` and, when it is known, ``duration`` in seconds.
    :param reason: one of a few words, for whoever counts.
    :param final: it is not attempted again, whatever its function allows.
    """

    status: str
    result: dict[str, Any]
    reason: str = "none"
    final: bool = False


def error(text: str, reason: str = "service", final: bool = False) -> Outcome:
    """Return the outcome of a run that the service could not bring to its end.

    :param text: what the caller reads.
    """
    return Outcome(ERROR, {"output": text}, reason, final)


def cancelled(duration: float | None = None) -> Outcome:
    """Return the outcome of an execution that was cancelled.

    :param duration: seconds that the function ran; None: it never did, or nobody knows.
    """
    result: dict[str, Any] = {"output": "The execution was cancelled."}
    if duration is not None:
        result["duration"] = duration
    return Outcome(CANCELLED, result, "cancelled")


@dataclass(frozen=True)
class Fence:
    """Which attempt of which execution, by whom: writes of any other are refused."""

    execution_id: str
    runner_id: str
    attempt: int
