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

ENDED = frozenset({SUCCESS, FAILED, ERROR})


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    :param result: JSON object with ``output`` and, when it is known, ``duration`` in seconds.
    """

    status: str
    result: dict[str, Any]


def error(reason: str) -> Outcome:
    """Return the outcome of a run that the service could not bring to its end."""
    return Outcome(ERROR, {"output": reason})


@dataclass(frozen=True)
class Fence:
    """Which attempt of which execution, by whom: writes of any other are refused."""

    execution_id: str
    runner_id: str
    attempt: int
