# SPDX-License-Identifier: Apache-2.0
"""Keeps one engine's pools as the table of runtimes wants them."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from qinling_exec.catalogue import runtimes
from qinling_exec.db import models
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.orchestrator.background import UNCHANGED
from qinling_exec.orchestrator.base import (
    Capacity,
    Orchestrator,
    OrchestratorError,
    PoolRequest,
)

LOG = logging.getLogger(__name__)
#: After a pool of an available runtime could not be made, in seconds.
_RETRY_SECONDS = 10.0
#: Between attempts to make the pool of a runtime that is in error, in seconds: the first, and the
#: longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
#: Of the reason for an error, in characters.
_LONGEST = 255

_table = models.Runtime.__table__
_Later = Callable[[str, Callable[[], object]], bool]


class Pools:
    """The pools that this engine has made. Each engine makes its own, or they share them: that
    is the orchestrator's business.

    A runtime's status says what was asked for: the first engine to do it changes it, and it
    stays as it is when other engines come and go. One that is in error is tried again now and
    then, one runtime at a time, because each may take as long as a pod may take to start.
    """

    def __init__(self, database: Database, orchestrator: Orchestrator) -> None:
        self._database = database
        self._orchestrator = orchestrator
        self._made: dict[str, tuple[str, str | None]] = {}
        self._failed_at: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._recovering = False
        self._recorded: dict[str, tuple[int, int]] = {}
        #: True when each runtime that has to have a pool was seen to.
        self.ready = False

    def tend(self, once: _Later) -> None:
        """Have made and deleted what is to be. :param once: does it in the background."""
        with self._database.reader() as connection:
            rows = connection.execute(sa.select(_table)).all()
        waiting = False
        for row in rows:
            if row.status == runtimes.DELETING:
                once(row.id, functools.partial(self._delete, row.id))
            elif row.status in (runtimes.CREATING, runtimes.UPGRADING):
                waiting = True
                once(row.id, functools.partial(self._answer, row))
            elif row.status == runtimes.AVAILABLE and self._is_due(row):
                waiting = True
                once(row.id, functools.partial(self._make, row))
            elif row.status == runtimes.ERROR and self._may_recover(row.id):
                self._recovering = True
                if not once(row.id, functools.partial(self._recover, row)):
                    self._recovering = False
        for gone in set(self._made) - {row.id for row in rows}:
            once(gone, functools.partial(self._forget, gone))
        self.ready = not waiting

    def record(self) -> None:
        """Write the pools' figures down for the API, when they have changed."""
        for runtime_id in list(self._made):
            figures = _figures(self._orchestrator.capacity(runtime_id))
            if self._recorded.get(runtime_id) != figures:
                self._recorded[runtime_id] = figures
                self._update(runtime_id, pool_total=figures[0], pool_available=figures[1])

    def _is_due(self, row: sa.Row[Any]) -> bool:
        """Tell whether this engine has to make the pool of an available runtime now."""
        failed_at = self._failed_at.get(row.id)
        return self._made.get(row.id) != (row.image, row.name) and (
            failed_at is None or time.monotonic() - failed_at > _RETRY_SECONDS
        )

    def _may_recover(self, runtime_id: str) -> bool:
        """Tell whether it is time to try a runtime in error again."""
        now = time.monotonic()
        return now >= self._due.setdefault(runtime_id, now + _FIRST_PAUSE) and (
            not self._recovering)

    def _recover(self, row: sa.Row[Any]) -> object:
        """See whether what was wrong with a runtime has passed."""
        try:
            reason = self._attempt(row)
        finally:
            self._recovering = False
        in_error = _table.c.status == row.status
        if reason is None:
            LOG.info("Runtime %s has recovered.", row.id)
            self._pauses.pop(row.id, None)
            self._due.pop(row.id, None)
            self._update(row.id, in_error, status=runtimes.AVAILABLE, status_reason=None,
                         updated_at=utcnow())
            return None
        pause = min(self._pauses.get(row.id, _FIRST_PAUSE) * 2, _LONGEST_PAUSE)
        self._pauses[row.id], self._due[row.id] = pause, time.monotonic() + pause
        if reason != row.status_reason:
            self._update(row.id, in_error, status_reason=reason)
        return UNCHANGED

    def _attempt(self, row: sa.Row[Any]) -> str | None:
        """Make a pool; return why it can't be had, None: it is there."""
        try:
            self._ensure(row)
        except OrchestratorError as error:
            LOG.warning("The pool of runtime %s could not be made: %s", row.id, error)
            text = str(error)
            return text if len(text) <= _LONGEST else f"{text[:_LONGEST - 1]}…"
        return None

    def _make(self, row: sa.Row[Any]) -> None:
        """Make a pool here; its failures are this engine's own trouble, and are tried again."""
        if self._attempt(row) is not None:
            self._failed_at[row.id] = time.monotonic()

    def _ensure(self, row: sa.Row[Any]) -> None:
        self._orchestrator.ensure_pool(PoolRequest(row.id, row.image, row.trusted, row.name))
        self._made[row.id] = row.image, row.name
        self._failed_at.pop(row.id, None)

    def _answer(self, row: sa.Row[Any]) -> None:
        """Make a pool that somebody asked for, and say how that went."""
        reason = self._attempt(row)
        status = runtimes.AVAILABLE if reason is None else runtimes.ERROR
        total, available = _figures(self._orchestrator.capacity(row.id))
        self._update(row.id, _table.c.status == row.status, status=status, status_reason=reason,
                     updated_at=utcnow(), pool_total=total, pool_available=available)

    def _delete(self, runtime_id: str) -> None:
        self._forget(runtime_id)
        with self._database.writer() as connection:
            connection.execute(sa.delete(_table).where(_table.c.id == runtime_id))

    def _forget(self, runtime_id: str) -> None:
        self._orchestrator.delete_pool(runtime_id)
        for known in (self._made, self._pauses, self._due):
            known.pop(runtime_id, None)
        self._recorded.pop(runtime_id, None)

    def _update(self, runtime_id: str, *conditions: sa.ColumnElement[bool],
                **values: Any) -> None:
        with self._database.writer() as connection:
            connection.execute(
                sa.update(_table).where(_table.c.id == runtime_id, *conditions).values(**values)
            )


def _figures(capacity: Capacity | None) -> tuple[int, int]:
    return (capacity.total, capacity.available) if capacity else (0, 0)
