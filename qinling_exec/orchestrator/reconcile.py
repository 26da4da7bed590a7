# SPDX-License-Identifier: Apache-2.0
"""Ends what no table knows: workers, pools and runs that outlived the engine that made them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import Database
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.background import UNCHANGED
from qinling_exec.orchestrator.base import Attempt, Images, Orchestrator, OrchestratorError

LOG = logging.getLogger(__name__)
#: Between looks, in seconds.
_EVERY = 15.0
_T = TypeVar("_T")
_workers = models.Worker.__table__
_runtimes = models.Runtime.__table__
_executions = models.Execution.__table__


class Reconciler:
    """Compares a shared orchestrator with the tables; the reverse is done worker by worker.

    A worker's row is there before its pod, a runtime's before its pool and an execution's before
    its run, so what is read first in the cluster and then not found in the table is nobody's.
    """

    def __init__(self, database: Database, orchestrator: Orchestrator) -> None:
        self._database = database
        self._orchestrator = orchestrator
        self._looked: float | None = None

    @property
    def is_due(self) -> bool:
        """True when it is time for another look."""
        return self._orchestrator.shared and (
            self._looked is None or time.monotonic() - self._looked > _EVERY)

    def reconcile(self) -> object:
        """End what is nobody's; the loop that has it done need not be told.

        While the cluster can't be reached it is due again at the loop's next turn: a bell then
        would be rung without end.
        """
        there = self._orchestrator.workers()
        if there is None:
            return UNCHANGED
        pools = self._orchestrator.pools()
        self._looked = time.monotonic()
        with self._database.reader() as connection:
            rows = connection.execute(sa.select(
                _workers.c.name, _workers.c.state, _workers.c.address)).all()
            runtimes = set(connection.execute(sa.select(_runtimes.c.id)).scalars())
        known = {row.name: row for row in rows}
        for name, address in there.items():
            row = known.get(name)
            if row is None or (row.state != workers.STARTING and row.address != address):
                LOG.warning("Worker %s is ended: the database does not know it.", name)
                _try(self._orchestrator.release, name)
        for runtime_id in pools - runtimes:
            LOG.warning("The pool of runtime %s is ended: the database does not know it.",
                        runtime_id)
            _try(self._orchestrator.delete_pool, runtime_id)
        if self._orchestrator.images is not None:
            self._end_runs(self._orchestrator.images)
        return UNCHANGED

    def _end_runs(self, images: Images) -> None:
        """End runs of images whose executions have ended, or are at another attempt."""
        there = images.all() or set()
        for attempt in there - self._going(there):
            LOG.warning("Attempt %s of execution %s is ended: the database does not know it.",
                        attempt[1], attempt[0])
            _try(images.end, attempt)

    def _going(self, attempts: set[Attempt]) -> set[Attempt]:
        """Return those of some attempts that go on, or may have to be gone on with."""
        query = sa.select(_executions.c.id, _executions.c.attempts, _executions.c.runner_id).where(
            _executions.c.id.in_({execution_id for execution_id, _ in attempts}),
            _executions.c.status == "running")
        with self._database.reader() as connection:
            rows = connection.execute(query).all()
        # One that could not be begun for certain has gone back: the next claim has its number.
        return {(row.id, row.attempts + (row.runner_id is None)) for row in rows}


def _try(end: Callable[[_T], object], what: _T) -> None:
    """End one of several; what fails does not keep the others."""
    try:
        end(what)
    except OrchestratorError as error:
        LOG.warning("It is tried again: %s", error)
