# SPDX-License-Identifier: Apache-2.0
"""Ends what dead runners left behind, so that nothing stays ``running`` for ever."""

from __future__ import annotations

import logging
from datetime import timedelta

import sqlalchemy as sa

from qinling_exec.db import clock, models
from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states
from qinling_exec.executions.waiters import Waiters

LOG = logging.getLogger(__name__)
_BATCH = 200
_REASON = (
    "The process that ran the execution died or lost its connection before the function"
    " answered. The function may have done its work in part."
)
_runners = models.Runner.__table__
_workers = models.Worker.__table__


class Reaper:
    """Looks for dead runners. Any number of reapers may do so at the same time.

    :param lease: seconds without a heartbeat after which a runner is dead.
    """

    def __init__(self, database: Database, waiters: Waiters, lease: float) -> None:
        self._database = database
        self._waiters = waiters
        self._lease = lease

    def sweep(self) -> int:
        """End the executions of dead runners, forget the runners and their workers.

        :returns: how many executions were ended.
        """
        self._forget_dead()
        ended = 0
        while orphans := self._orphans():
            for fence in orphans:
                ended += self._end(fence)
        self._forget_workers()
        return ended

    def _forget_dead(self) -> None:
        with self._database.writer() as connection:
            limit = clock.read(connection) - timedelta(seconds=self._lease)
            connection.execute(sa.delete(_runners).where(_runners.c.heartbeat_at < limit))

    def _orphans(self) -> list[states.Fence]:
        """Return running executions whose runner is not there."""
        table = records.table
        alive = sa.exists().where(_runners.c.id == table.c.runner_id)
        query = sa.select(table.c.id, table.c.runner_id, table.c.attempts).where(
            table.c.status == states.RUNNING, table.c.runner_id.is_not(None), ~alive
        ).limit(_BATCH)
        with self._database.reader() as connection:
            return [states.Fence(*row) for row in connection.execute(query)]

    def _end(self, fence: states.Fence) -> bool:
        with self._database.writer() as connection:
            ended = records.end(connection, fence, states.error(_REASON)) is not None
        if ended:
            LOG.warning("Execution %s ended as error: its runner %s is dead.",
                        fence.execution_id, fence.runner_id)
            self._waiters.ended(fence.execution_id)
        return ended

    def _forget_workers(self) -> None:
        """Drop workers of dead engines: those die with them."""
        alive = sa.exists().where(_runners.c.id == _workers.c.runner_id)
        with self._database.writer() as connection:
            connection.execute(
                sa.delete(_workers).where(_workers.c.runner_id.is_not(None), ~alive)
            )
