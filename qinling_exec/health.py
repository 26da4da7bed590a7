# SPDX-License-Identifier: Apache-2.0
"""Whether this process can do its work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass

import sqlalchemy as sa

from qinling_exec.db import migration
from qinling_exec.db.engine import Database
from qinling_exec.executions.leases import Runner

LOG = logging.getLogger(__name__)
#: A check that takes longer has failed.
_PATIENCE = 5.0
#: Seconds for which an outcome is good; anybody may ask, and as often as they like.
_GOOD_SECONDS = 1.0


@dataclass(frozen=True)
class Check:
    """The outcome of one check; ``reason`` is for operators."""

    name: str
    healthy: bool
    reason: str


class Health:
    """The checks of one process.

    :param orchestrated: tells whether an engine in this process can have workers; None: there is
        no engine.
    """

    def __init__(self, database: Database, runner: Runner,
                 orchestrated: Callable[[], bool | None]) -> None:
        self._database = database
        self._runner = runner
        self._orchestrated = orchestrated
        self._lock = threading.Lock()
        self._threads = futures.ThreadPoolExecutor(1, "health")
        self._asked: futures.Future[list[Check]] | None = None
        self._looked = 0.0
        self._seen: list[Check] = []

    def checks(self) -> list[Check]:
        """Return all outcomes, as seen a moment ago; in time, even when the database hangs."""
        with self._lock:
            if time.monotonic() - self._looked > _GOOD_SECONDS:
                self._seen = self._look()
                self._looked = time.monotonic()
            return self._seen

    def _look(self) -> list[Check]:
        if self._asked is None:
            self._asked = self._threads.submit(self._ask)
        try:
            seen = self._asked.result(_PATIENCE)
        except futures.TimeoutError:
            return [Check("database", False, f"It has not answered for {_PATIENCE:.0f} seconds.")]
        self._asked = None
        return seen

    def _ask(self) -> list[Check]:
        checks = [_tried("database", self._answers), _tried("schema", self._is_current),
                  _tried("lease", self._has_lease)]
        if self._orchestrated() is not None:
            checks.append(_tried("orchestrator", self._has_workers))
        return checks

    def _answers(self) -> str:
        with self._database.reader() as connection:
            connection.execute(sa.select(sa.literal(1)))
        return "It answers."

    def _is_current(self) -> str:
        version, newest = migration.version(self._database), migration.newest()
        if version != newest:
            raise ValueError(f"The schema is at {version}, this program needs {newest}.")
        return f"It is at {version}."

    def _has_lease(self) -> str:
        if not self._runner.valid:
            raise ValueError("The heartbeat could not be written in time.")
        return "It is valid."

    def _has_workers(self) -> str:
        if not self._orchestrated():
            raise ValueError("The cluster does not answer.")
        return "It answers."


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:
        LOG.warning("The check of the %s failed: %s", name, error)
        return Check(name, False, str(error) if isinstance(error, ValueError)
                     else "It can't be asked; the log says more.")
