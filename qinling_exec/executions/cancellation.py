# SPDX-License-Identifier: Apache-2.0
"""Cancelling executions: those that wait at once, those that run through whoever runs them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from qinling_exec import exceptions, metrics
from qinling_exec.db import clock
from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states
from qinling_exec.executions.waiters import Waiters

LOG = logging.getLogger(__name__)
#: How long a caller waits for the end of what runs.
WAIT_SECONDS = 5.0
#: Between looks at the database; what ends in this process is noticed at once.
_LOOK_SECONDS = 0.1
#: Looks at an execution that is claimed and put back all the time.
_TRIES = 5

_table = records.table


class Ended(exceptions.Conflict):
    """The execution had ended already."""

    def __init__(self, execution_id: str, status: str) -> None:
        super().__init__(f"Execution {execution_id} has ended already: its status is {status}.")
        self.status = status


class Cancellation:
    """Cancels executions, whichever process they run in.

    :param announce: called with the id of a running execution that is to be ended, so that
        whoever runs it need not look first.
    """

    def __init__(self, database: Database, waiters: Waiters,
                 announce: Callable[[str], object]) -> None:
        self._database = database
        self._waiters = waiters
        self._announce = announce

    def request(self, execution_id: str, scope: Sequence[sa.ColumnElement[bool]]) -> str:
        """Ask for an execution to be cancelled.

        :param scope: what the caller may see.
        :returns: the status: ``cancelled`` for one that waited, ``running`` for one that whoever
            runs it will end.
        :raises Ended: there is nothing to cancel.
        :raises qinling_exec.exceptions.NotFound: there is no such execution.
        """
        with self._database.writer() as connection:
            status = _request(connection, execution_id, scope)
        if status == states.CANCELLED:
            metrics.ENDED.labels(status, "cancelled").inc()
            LOG.info("Execution %s ended: cancelled before it began.", execution_id)
            self._waiters.ended(execution_id)
        elif status == states.RUNNING:
            self._announce(execution_id)
        return status

    def wait(self, execution_id: str, scope: Sequence[sa.ColumnElement[bool]],
             seconds: float = WAIT_SECONDS) -> str:
        """Wait for the end of an execution that is to be cancelled; return its status then.

        :raises qinling_exec.exceptions.NotFound: it was deleted.
        """
        until = time.monotonic() + seconds
        event = self._waiters.expect(execution_id)
        try:
            while True:
                status = self._look(execution_id, scope)
                left = until - time.monotonic()
                if status != states.RUNNING or left <= 0:
                    return status
                event.wait(min(_LOOK_SECONDS, left))
                event.clear()
        finally:
            self._waiters.forget(execution_id, event)

    def _look(self, execution_id: str, scope: Sequence[sa.ColumnElement[bool]]) -> str:
        """Return the status; cancel what has gone back to the queue meanwhile."""
        query = sa.select(_table.c.status, _table.c.runner_id)
        with self._database.reader() as connection:
            row = connection.execute(query.where(_table.c.id == execution_id, *scope)).first()
        if row is None:
            raise _missing(execution_id)
        if row.status == states.RUNNING and row.runner_id is None:
            try:
                return self.request(execution_id, scope)
            except Ended as error:
                return error.status
        return str(row.status)


def _missing(execution_id: str) -> exceptions.NotFound:
    return exceptions.NotFound(f"Execution not found [id={execution_id}]")


def _request(connection: sa.Connection, execution_id: str,
             scope: Sequence[sa.ColumnElement[bool]]) -> str:
    for _ in range(_TRIES):
        if records.end_waiting(connection, execution_id, states.cancelled(), scope):
            return states.CANCELLED
        if _mark(connection, execution_id, scope):
            return states.RUNNING
        row = connection.execute(
            sa.select(_table.c.status, _table.c.runner_id, _table.c.cancel_requested_at)
            .where(_table.c.id == execution_id, *scope)
        ).first()
        if row is None:
            raise _missing(execution_id)
        if row.status != states.RUNNING:
            raise Ended(execution_id, row.status)
        if row.runner_id is not None and row.cancel_requested_at is not None:
            return states.RUNNING
        # It was claimed, and put back, between the two looks.
    return states.RUNNING


def _mark(connection: sa.Connection, execution_id: str,
          scope: Sequence[sa.ColumnElement[bool]]) -> bool:
    """Note for whoever runs an execution that it is to be cancelled."""
    changed = connection.execute(
        sa.update(_table)
        .where(_table.c.id == execution_id, records.NOT_ENDED,
               _table.c.runner_id.is_not(None), _table.c.cancel_requested_at.is_(None), *scope)
        .values(cancel_requested_at=clock.now())
    )
    return bool(changed.rowcount)
