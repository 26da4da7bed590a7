# SPDX-License-Identifier: Apache-2.0
"""Deletes ended executions that are older than they are to be kept, a few at a time."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from qinling_exec.db import clock, models
from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states
from qinling_exec.executions.idempotency import Keys

LOG = logging.getLogger(__name__)

_table = records.table
_runners = models.Runner.__table__


@dataclass(frozen=True)
class Progress:
    """What a purge has done so far.

    :param executions: how many are deleted, or would be.
    :param keys: idempotency keys that are forgotten.
    """

    executions: int = 0
    keys: int = 0


class Retention:
    """Purges. Any number may go on at the same time: they take different rows.

    Every batch is a transaction of its own, so that a purge can be stopped at any point; the next
    one goes on with what is left. Running executions are never touched.

    :param rest: sleeps so many seconds; true when the purge is to stop.
    """

    def __init__(self, database: Database, keys: Keys,
                 rest: Callable[[float], bool | None] = time.sleep) -> None:
        self._database = database
        self._keys = keys
        self._rest = rest

    def purge(self, days: float, batch: int, share: float) -> Iterator[Progress]:
        """Delete what ended more than so many days ago, and idempotency keys whose time is over.

        :param days: the age; 0 or less deletes no executions.
        :param batch: executions of a transaction; inputs, results and logs go with them.
        :param share: part of the time, above 0 to 1, that deleting takes: it rests in between.
        :returns: the progress after each batch.
        """
        executions = keys = 0
        limit = self._limit(days)
        for status in sorted(states.ENDED) if days > 0 else ():
            last, more = None, True
            while more:
                began = time.monotonic()
                deleted, last = self._delete(status, limit, last, batch)
                executions, more = executions + deleted, last is not None
                if more:
                    yield Progress(executions, keys)
                if self._rest_since(began, share):
                    return
        began = time.monotonic()
        while forgotten := self._keys.expire():
            keys += forgotten
            yield Progress(executions, keys)
            if self._rest_since(began, share):
                return
            began = time.monotonic()

    def count(self, days: float, batch: int) -> Iterator[Progress]:
        """Count the executions that a purge would delete, without deleting any."""
        found = 0
        limit = self._limit(days)
        for status in sorted(states.ENDED):
            last = None
            while rows := self._read(status, limit, last, batch):
                found, last = found + len(_old(rows, limit)), rows[-1]
                yield Progress(found)

    def share_of_one(self, share: float) -> float:
        """Return the part of the time for one of several processes that purge."""
        with self._database.reader() as connection:
            runners = connection.execute(sa.select(sa.func.count()).select_from(_runners))
            return share / max(1, runners.scalar_one())

    def _rest_since(self, began: float, share: float) -> bool | None:
        """Rest in proportion to the time since; true when the purge is to stop."""
        return self._rest((time.monotonic() - began) * (1 / share - 1))

    def _limit(self, days: float) -> datetime:
        with self._database.reader() as connection:
            return clock.read(connection) - timedelta(days=days)

    def _read(self, status: str, limit: datetime, last: sa.Row[Any] | None,
              batch: int) -> Sequence[sa.Row[Any]]:
        with self._database.reader() as connection:
            return connection.execute(_oldest(status, limit, last, batch)).all()

    def _delete(self, status: str, limit: datetime, last: sa.Row[Any] | None,
                batch: int) -> tuple[int, sa.Row[Any] | None]:
        """Delete a batch; return how many it were and the last row, None at the end."""
        def work(connection: sa.Connection) -> tuple[int, sa.Row[Any] | None]:
            # Two purges lock rows of their own and do not wait for each other.
            rows = connection.execute(
                _oldest(status, limit, last, batch).with_for_update(skip_locked=True)
            ).all()
            deleted = connection.execute(sa.delete(_table).where(
                _table.c.id.in_(_old(rows, limit)), _table.c.status == status)).rowcount
            return deleted, rows[-1] if rows else None

        # Whatever became of a batch: the next one is right.
        return self._database.transact(work, settled=lambda _: None)


def _oldest(status: str, limit: datetime, last: sa.Row[Any] | None,
            batch: int) -> sa.Select[Any]:
    """Return the query of the oldest executions of a state behind the last one seen.

    It goes by creation, which has an index; what ended later than that is sorted out afterwards.
    """
    columns = (_table.c.created_at, _table.c.id, _table.c.finished_at)
    query = sa.select(*columns).where(_table.c.status == status, _table.c.created_at < limit)
    if last is not None:
        query = query.where(
            _table.c.created_at >= last.created_at,
            sa.or_(_table.c.created_at > last.created_at, _table.c.id > last.id),
        )
    return query.order_by(_table.c.created_at, _table.c.id).limit(batch)


def _old(rows: Sequence[sa.Row[Any]], limit: datetime) -> list[str]:
    return [row.id for row in rows if row.finished_at is None or row.finished_at < limit]


class Periodic:
    """Purges from time to time, in a thread of its own.

    :param days: age of executions to be deleted; 0 keeps all of them.
    :param seconds: from one purge to the next, about; processes don't all begin at once.
    """

    def __init__(self, database: Database, keys: Keys, *, days: float, batch: int, share: float,
                 seconds: float) -> None:
        self._stop = threading.Event()
        self._retention = Retention(database, keys, self._stop.wait)
        self._days = days
        self._batch = batch
        self._share = share
        self._seconds = seconds
        self._thread = threading.Thread(target=self._loop, name="retention", daemon=True)

    def start(self) -> None:
        """Begin; the first purge comes after a part of the interval."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the batch at hand."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(self._seconds * random.uniform(0.5, 1)):
            try:
                self._once()
            except Exception as error:
                LOG.warning("Old executions could not be deleted, another time they are: %s",
                            error, exc_info=not getattr(error, "code", None))

    def _once(self) -> None:
        done = Progress()
        share = self._retention.share_of_one(self._share)
        for progress in self._retention.purge(self._days, self._batch, share):
            done = progress
        if done.executions or done.keys:
            LOG.info("Deleted %s executions that ended more than %s days ago, and forgot %s"
                     " idempotency keys.", done.executions, self._days, done.keys)
