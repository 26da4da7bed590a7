# SPDX-License-Identifier: Apache-2.0
"""Holds workers to the size that their functions ask for."""

from __future__ import annotations

import logging

from qinling_exec.db.engine import Database
from qinling_exec.executions import targets
from qinling_exec.orchestrator.base import (
    Orchestrator,
    OrchestratorError,
    OrchestratorUnavailable,
    Size,
)
from qinling_exec.orchestrator.workers import Worker

LOG = logging.getLogger(__name__)


class Fitting:
    """Fits workers; what they run is held to its size by the worker itself in any case."""

    def __init__(self, database: Database, orchestrator: Orchestrator) -> None:
        self._database = database
        self._orchestrator = orchestrator
        #: Workers whose size could not be asked for yet.
        self._owed: set[str] = set()

    def fit(self, name: str, size: Size) -> None:
        """Hold a worker to its size, if that can be."""
        self._owed.discard(name)
        try:
            self._orchestrator.fit(name, size)
        except OrchestratorUnavailable as error:
            LOG.warning("Worker %s gets its size later: %s", name, error)
            self._owed.add(name)
        except OrchestratorError as error:
            LOG.warning("Worker %s keeps the size that it had: %s", name, error)

    def owes(self, name: str) -> bool:
        """Tell whether a worker is still to be fitted."""
        return name in self._owed

    def forget(self, name: str) -> None:
        """Forget a worker that is gone."""
        self._owed.discard(name)

    def refit(self, worker: Worker) -> None:
        """Do the same anew, or for another engine's: that one may have died before it did."""
        with self._database.reader() as connection:
            target = targets.load(connection, worker.function_id, worker.function_version)
        if target is not None:
            self.fit(worker.name, Size(target.cpu, target.memory_size, worker.room))
