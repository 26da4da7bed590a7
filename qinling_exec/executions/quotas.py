# SPDX-License-Identifier: Apache-2.0
"""How many executions may wait for a worker, and run: of one project, and in all."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states
from qinling_exec.quota import holding
from qinling_exec.quota.limits import QUEUED, RUNNING, Limits

#: Seconds for which a count is believed. Counting takes a few milliseconds for each 10,000 rows.
_LIFE = 1.0
#: Far from its limit, where some more or less do not matter.
_LONG_LIFE = 5.0
#: Nobody is refused because of an older one...
_FULL_LIFE = 0.1
#: ...unless counting is slow: it takes a twentieth of the time at the most.
_SHARE = 20.0
#: Counts that are kept.
_KEPT = 20000
#: Up to so many running executions a project's own limit is always held exactly.
_FEW = 100

_table = records.table


@dataclass
class _Count:
    """How many there were when it was counted, with those that this process added since.

    added: whether it did: some of them may have started or ended already.
    """

    number: int = 0
    added: bool = False
    counted_at: float = float("-inf")
    took: float = 0.0

    def holds(self, now: float, limit: int) -> bool:
        """Tell whether it need not be counted again."""
        if self.number >= limit and self.added:
            return False  # nobody is refused by what was only reckoned
        life = _LONG_LIFE
        if self.number >= limit / 2:
            life = _FULL_LIFE if self.number >= limit else _LIFE
        return now - self.counted_at < max(life, self.took * _SHARE)


class Quotas:
    """Keeps the queue from growing without end, and projects from running too much at once.

    The numbers are counted now and then, up to the limit and not further, and kept for a
    moment; each process adds what it accepts itself. So several processes may together let a
    little more into the queue. What is to run at once is counted anew, in the transaction that
    stores it, where the limit is near.

    :param total: executions of all projects that may wait.
    """

    def __init__(self, database: Database, limits: Limits, total: int) -> None:
        self._database = database
        self._limits = limits
        self._total = total
        self._lock = threading.Lock()
        self._counts: OrderedDict[tuple[str, str | None], _Count] = OrderedDict()

    def check(self, project_id: str, *, sync: bool = False, queued: bool = True) -> int:
        """Let one more execution of a project in; return the limit for :meth:`settle`.

        :param sync: a caller waits for it, and so does not want it to wait for others.
        :param queued: it goes into the queue.
        :raises qinling_exec.exceptions.TooManyRequests: the project has too many.
        :raises qinling_exec.exceptions.Unavailable: the queue is full.
        """
        limits = self._limits.of(project_id)
        if sync and 0 <= limits[RUNNING] <= (
                running := self._number(RUNNING, project_id, limits[RUNNING])):
            raise _too_many(RUNNING, limits[RUNNING], running)
        if not queued:
            return limits[RUNNING]
        total = self._number(QUEUED, None, self._total)
        if total >= self._total:
            raise exceptions.Unavailable(
                f"The queue is full: {total} executions wait for a worker, and the limit is"
                f" {self._total}. Try again later."
            )
        if 0 <= limits[QUEUED] <= (own := self._number(QUEUED, project_id, limits[QUEUED])):
            raise _too_many(QUEUED, limits[QUEUED], own)
        return limits[RUNNING]

    def settle(self, connection: sa.Connection, project_id: str, limit: int) -> None:
        """Count what runs of a project, in the transaction that has stored one that is to run.

        :raises qinling_exec.exceptions.TooManyRequests: it is one too many: do not commit.
        """
        with self._lock:
            known = self._counts.get((RUNNING, project_id))
        if limit < 0 or (limit > _FEW and known is not None and known.number < limit / 2):
            return
        holding.lock(connection, project_id)
        running = _count(connection, RUNNING, project_id, limit + 1)
        if running > limit:
            raise _too_many(RUNNING, limit, running - 1)

    def added(self, project_id: str, *, queued: bool = True) -> None:
        """Count an execution that this process has accepted."""
        keys = [(QUEUED, None), (QUEUED, project_id)] if queued else [(RUNNING, project_id)]
        with self._lock:
            for key in keys:
                if key in self._counts:
                    self._counts[key].number += 1
                    self._counts[key].added = True

    def _number(self, resource: str, project_id: str | None, limit: int) -> int:
        now = time.monotonic()
        key = resource, project_id
        with self._lock:
            known = self._counts.setdefault(key, _Count())
            self._counts.move_to_end(key)
            if known.holds(now, limit):
                return known.number
            # The others go by the old number meanwhile.
            before, known.counted_at, known.added = known.counted_at, now, False
            while len(self._counts) > _KEPT:
                self._counts.popitem(last=False)
        try:
            with self._database.reader() as connection:
                counted = _count(connection, resource, project_id, limit)
        except BaseException:
            known.counted_at = before
            raise
        with self._lock:
            known.number = counted
            known.counted_at = time.monotonic()
            known.took = known.counted_at - now
        return counted


def _count(connection: sa.Connection, resource: str, project_id: str | None, most: int) -> int:
    """Count executions that wait or that run, up to a number and not further."""
    query = sa.select(sa.literal(1)).select_from(_table).where(
        _table.c.status == states.RUNNING,
        _table.c.runner_id.is_not(None) if resource == RUNNING else _table.c.runner_id.is_(None),
    )
    if project_id is not None:
        query = query.where(_table.c.project_id == project_id)
    bounded = sa.select(sa.func.count()).select_from(query.limit(most).subquery())
    return int(connection.execute(bounded).scalar_one())


def _too_many(resource: str, limit: int, usage: int) -> exceptions.TooManyRequests:
    return exceptions.TooManyRequests(holding.over(resource, limit, usage, 1) + (
        " Try again when some of them have ended." if resource == RUNNING else
        " Try again when some of them have started, or cancel some."))
