# SPDX-License-Identifier: Apache-2.0
"""Runners and their leases: who is alive, by the database's clock."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from qinling_exec.db import clock, models
from qinling_exec.db.engine import Database

LOG = logging.getLogger(__name__)
_table = models.Runner.__table__


class Runner:
    """This process as a runner of executions.

    :param lease: seconds after which others take a silent runner for dead.
    :param on_lost: called when the lease could not be renewed in time; runs must stop.
    """

    def __init__(self, database: Database, lease: float, on_lost: Callable[[], None]) -> None:
        self.id = models.new_id()
        self._database = database
        self._lease = lease
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)
        self._renewed = 0.0

    @property
    def valid(self) -> bool:
        """True while others can't have taken this runner for dead; start nothing otherwise."""
        return time.monotonic() - self._renewed < self._lease * 0.8

    def start(self) -> None:
        """Register, and keep the heartbeat going."""
        self._register()
        self._thread.start()

    def stop(self) -> None:
        """Sign off. What this runner still has counts as orphaned at once."""
        self._stop.set()
        self._thread.join()
        with self._database.writer() as connection:
            connection.execute(sa.delete(_table).where(_table.c.id == self.id))

    def _register(self) -> None:
        before = time.monotonic()
        with self._database.writer() as connection:
            connection.execute(sa.insert(_table).values(
                id=self.id, host=socket.gethostname(), pid=os.getpid(),
                started_at=clock.now(), heartbeat_at=clock.now(),
            ))
        self._renewed = before

    def _loop(self) -> None:
        while not self._stop.wait(self._lease / 5):
            try:
                self._renew()
            except Exception as error:
                LOG.warning("The heartbeat could not be renewed: %s", error)
            if not self.valid:
                LOG.error("The lease of runner %s is lost: its runs are stopped.", self.id)
                self._on_lost()

    def _renew(self) -> None:
        before = time.monotonic()
        with self._database.writer() as connection:
            result = connection.execute(
                sa.update(_table).where(_table.c.id == self.id)
                .values(heartbeat_at=clock.now())
            )
        if result.rowcount:
            self._renewed = before
            return
        LOG.error("Runner %s was taken for dead; what it runs is no longer its own.", self.id)
        self._on_lost()
        self._register()


def expire_all(database: Database) -> None:
    """Take every runner for dead: the caller knows that no other process is there."""
    with database.writer() as connection:
        connection.execute(sa.delete(_table))
