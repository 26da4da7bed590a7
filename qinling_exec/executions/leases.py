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

from qinling_exec import metrics
from qinling_exec.db import clock, models
from qinling_exec.db.engine import Database

LOG = logging.getLogger(__name__)
#: Between looks whether the lease still holds, in seconds.
_GUARD_SECONDS = 0.25
#: The part of the lease after which a runner no longer counts on it.
_MARGIN = 0.8
#: Leases after which a main loop that has not gone round hangs: with a database that takes seconds
#: for each statement a claim alone can take one.
_HANG = 2
#: Exit status of a process whose main loop hangs; sysexits.h: software.
HUNG_STATUS = 70

_table = models.Runner.__table__


class Runner:
    """This process as a runner of executions.

    :param lease: seconds after which others take a silent runner for dead.
    :param on_lost: called when the lease could not be renewed in time; runs must stop.
    """

    def __init__(self, database: Database, lease: float, on_lost: Callable[[], object]) -> None:
        #: A new one after each time that others may have taken this runner for dead.
        self.id = models.new_id()
        self._database = database
        self._lease = lease
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._renew_always, name="heartbeat", daemon=True),
            threading.Thread(target=self._guard, name="lease-guard", daemon=True),
        ]
        self._renewed = float("-inf")
        self._doubtful_until = float("-inf")
        self._beat: float | None = None
        #: Called after each renewal.
        self.on_renewed: Callable[[], object] = lambda: None
        self._exit: Callable[[int], object] = os._exit

    @property
    def valid(self) -> bool:
        """True while others can't have taken this runner for dead; start nothing otherwise."""
        return time.monotonic() - self._renewed < self._lease * _MARGIN

    def holds(self, runner_id: str) -> bool:
        """Tell whether what a runner of this name has is still this process's for certain.

        The name is another one once others may have taken this process for dead.
        """
        return self.id == runner_id and self.valid

    @property
    def may_judge(self) -> bool:
        """True when this runner may take others for dead.

        One that was without the database a while ago may not: others were too, most likely, and
        need the time of a lease to come back and to write what they have.
        """
        return self.valid and time.monotonic() > self._doubtful_until

    def doubt(self) -> None:
        """Note that the database was away: others get a lease's time to come back."""
        self._doubtful_until = time.monotonic() + self._lease

    def beat(self) -> None:
        """Tell that the main loop goes round. Once told, silence for two leases is a hang."""
        self._beat = time.monotonic()

    def rest(self) -> None:
        """Tell that the main loop has ended in good order."""
        self._beat = None

    def start(self) -> None:
        """Register, and keep the heartbeat going."""
        self._register()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Sign off. What this runner still has counts as orphaned at once."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(self._lease)
        self._sign_off()

    def _sign_off(self) -> None:
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

    def _renew_always(self) -> None:
        while not self._stop.wait(self._lease / 5):
            try:
                self._renew()
                metrics.RENEWALS.labels("written").inc()
                self.on_renewed()
            except Exception as error:
                metrics.RENEWALS.labels("failed").inc()
                LOG.warning("The heartbeat could not be renewed: %s", error)

    def _renew(self) -> None:
        before = time.monotonic()
        with self._database.writer() as connection:
            result = connection.execute(
                sa.update(_table).where(_table.c.id == self.id)
                .values(heartbeat_at=clock.now())
            )
        if before - self._renewed > self._lease * _MARGIN:
            self._doubtful_until = before + self._lease
        if result.rowcount:
            self._renewed = before
            return
        LOG.error("Runner %s was taken for dead; what it runs is no longer its own.", self.id)
        self._renewed = float("-inf")
        self._on_lost()
        self.id = models.new_id()
        self._register()

    def _guard(self) -> None:
        """Stop the runs before the lease ends, and the process when its main loop hangs."""
        told = False
        while not self._stop.wait(_GUARD_SECONDS):
            if self._hangs():
                self._end_hung()
                return
            if self.valid:
                told = False
            elif not told:
                told = True
                self._lose()

    def _lose(self) -> None:
        LOG.error("The lease of runner %s could not be renewed: its runs are stopped.", self.id)
        try:
            self._on_lost()
        except Exception:
            LOG.exception("Not all runs could be stopped.")

    def _hangs(self) -> bool:
        """Tell whether the main loop has stopped although the database answers."""
        beat = self._beat
        return beat is not None and self.valid and time.monotonic() - beat > self._lease * _HANG

    def _end_hung(self) -> None:
        LOG.critical("The main loop has not gone round for %s seconds: it hangs. The heartbeat"
                     " stops, the runs are ended and the process exits, so that whatever watches"
                     " over it starts it again.", self._lease * _HANG)
        self._stop.set()
        try:
            self._on_lost()
            self._sign_off()
        except Exception as error:
            LOG.error("The runner could not sign off: %s", error)
        self._exit(HUNG_STATUS)


def expire_all(database: Database) -> None:
    """Take every runner for dead: the caller knows that no other process is there."""
    with database.writer() as connection:
        connection.execute(sa.delete(_table))
