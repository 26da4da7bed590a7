# SPDX-License-Identifier: Apache-2.0
"""Ends what no table knows: workers and pools that outlived the engine that made them."""

from __future__ import annotations

import logging
import time

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import Database
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.base import Orchestrator

LOG = logging.getLogger(__name__)
#: Between looks, in seconds.
_EVERY = 15.0
_workers = models.Worker.__table__
_runtimes = models.Runtime.__table__


class Reconciler:
    """Compares a shared orchestrator with the tables; the reverse is done worker by worker.

    A worker's row is there before its pod and a runtime's before its pool, so what is read first
    in the cluster and then not found in the table is nobody's.
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

    def reconcile(self) -> None:
        """End what is nobody's."""
        there = self._orchestrator.workers()
        if there is None:
            return
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
                self._orchestrator.release(name)
        for runtime_id in pools - runtimes:
            LOG.warning("The pool of runtime %s is ended: the database does not know it.",
                        runtime_id)
            self._orchestrator.delete_pool(runtime_id)
