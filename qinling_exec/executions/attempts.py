# SPDX-License-Identifier: Apache-2.0
"""What comes after an attempt: the end of the execution, or another attempt."""

from __future__ import annotations

import enum
import json
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from qinling_exec.db import clock, models
from qinling_exec.executions import records, states

#: Seconds before the second attempt; before each further one twice as long, up to the second.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

_table = records.table
_functions = models.Function.__table__


class Repeat(enum.Enum):
    """When an execution that may be attempted again is."""

    #: After a pause: what went wrong may go wrong again.
    LATER = enum.auto()
    #: Nothing went wrong.
    AT_ONCE = enum.auto()
    NEVER = enum.auto()


@dataclass(frozen=True)
class Settled:
    """What became of an execution.

    :param status: terminal, or ``running``: it will be attempted again.
    :param result: as it was stored.
    :param kept: nothing yet: the database is away, and it is written later.
    """

    status: str
    result: str | None = None
    kept: bool = False


def settle(connection: sa.Connection, fence: states.Fence, outcome: states.Outcome,
           now: datetime | None = None, repeat: Repeat = Repeat.LATER) -> Settled | None:
    """End an execution after an attempt, or put it back for another attempt.

    It is attempted again when its function allows it: after an ``error``, and after ``failed``
    if the function says so. One that somebody wants to be cancelled is not.

    :returns: None when the fence does not hold: nothing was done.
    """
    if outcome.status in (states.ERROR, states.FAILED):
        # With a lock: a cancel comes before this decision, or finds what became of it.
        row = connection.execute(_HELD.where(*records.held_by(fence)).with_for_update()).first()
        if row is None:
            return None
        if row.cancel_requested_at is not None:
            if outcome.status == states.ERROR:
                outcome = states.cancelled()
        elif repeat is not Repeat.NEVER and not outcome.final and _may_repeat(
                connection, row.function_id, fence, outcome):
            pause = 0.0 if repeat is Repeat.AT_ONCE else _pause(fence.attempt)
            return _again(connection, fence, pause)
    text = records.end(connection, fence, outcome, now)
    return None if text is None else Settled(outcome.status, text)


def settled_before(connection: sa.Connection, fence: states.Fence, outcome: states.Outcome,
                   now: datetime) -> Settled | None:
    """Tell what became of a write that seemed to fail: None when it was not carried out.

    The time, to the microsecond, tells it from any other end.
    """
    ended = connection.execute(sa.select(_table.c.status).where(
        _table.c.id == fence.execution_id, _table.c.runner_id == fence.runner_id,
        _table.c.attempts == fence.attempt, _table.c.finished_at == now,
    )).scalar()
    return None if ended is None else Settled(ended, json.dumps(outcome.result))


_HELD = sa.select(_table.c.cancel_requested_at, _table.c.function_id)
_POLICY = sa.select(_functions.c.max_attempts, _functions.c.retry_on_failure)


def _may_repeat(connection: sa.Connection, function_id: str, fence: states.Fence,
                outcome: states.Outcome) -> bool:
    row = connection.execute(_POLICY.where(_functions.c.id == function_id)).first()
    if row is None or fence.attempt >= row.max_attempts:
        return False
    return outcome.status == states.ERROR or bool(row.retry_on_failure)


def _pause(attempt: int) -> float:
    """Return seconds before the next attempt; at random, so that many do not come at once."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)


def _again(connection: sa.Connection, fence: states.Fence, pause: float) -> Settled | None:
    retry_at = clock.read(connection) + timedelta(seconds=pause)
    changed = connection.execute(
        sa.update(_table).where(*records.held_by(fence))
        .values(runner_id=None, worker=None, started_at=None, retry_at=retry_at)
    )
    return Settled(states.RUNNING) if changed.rowcount else None
