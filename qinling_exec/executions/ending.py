# SPDX-License-Identifier: Apache-2.0
"""Writes down how runs ended: now, or as soon as the database is back."""

from __future__ import annotations

import json
import logging
from datetime import datetime

from qinling_exec import exceptions, faultpoint, metrics
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.db.wakeup import ENDED, QUEUE, Wakeup
from qinling_exec.executions import attempts, logs, states
from qinling_exec.executions.attempts import Repeat, Settled
from qinling_exec.executions.outbox import Outbox
from qinling_exec.executions.queue import Group, Queue
from qinling_exec.executions.waiters import Waiters

LOG = logging.getLogger(__name__)
_AWAY = (exceptions.Unavailable, exceptions.InsufficientStorage)
_TOO_MUCH = ("The database could not be reached when the function ended, and the process that ran"
             " it had no memory left to keep its result.")
_BROKEN = ("The service met an error of its own and lost track of the run. The function may have"
           " done its work. The service's log says more.")
_TOO_LARGE = ("The function has ended, and its result is larger than what the database of the"
              " service takes.")
#: Of an outcome in the outbox besides its result and log, in bytes.
_OVERHEAD = 4096


class Ending:
    """Ends attempts, each under its fence."""

    def __init__(self, database: Database, wakeup: Wakeup, waiters: Waiters,
                 outbox: Outbox) -> None:
        self._database = database
        self._wakeup = wakeup
        self._waiters = waiters
        self._outbox = outbox
        self._queue = Queue(database)

    def finish(self, fence: states.Fence, outcome: states.Outcome, sink: logs.Sink | None = None,
               now: datetime | None = None, *, awaited: bool = False,
               repeat: Repeat = Repeat.LATER) -> Settled | None:
        """Record how a run ended, with the rest of its log.

        :param awaited: another process may wait for the end.
        :returns: None when the run is not this runner's any more; status ``running`` and no
            result when it is attempted again, or when its outcome is written later.
        """
        faultpoint.reach("answered")
        now = now or utcnow()
        try:
            return self._write(fence, outcome, sink, now, awaited, repeat)
        except _AWAY:
            self._keep(fence, outcome, sink, now, awaited, repeat)
        except Exception:
            LOG.exception("The outcome of execution %s, attempt %s, can't be written.",
                          fence.execution_id, fence.attempt)
            self._keep_broken(fence, _BROKEN, now, repeat)
        return Settled(states.RUNNING, kept=True)

    def abandon(self, fence: states.Fence) -> None:
        """End an attempt that an error of this service cut off; it may have been carried out."""
        LOG.exception("Execution %s, attempt %s, can't go on.", fence.execution_id, fence.attempt)
        self.finish(fence, states.error(_BROKEN), awaited=True)

    def give_up(self, group: Group, reason: str, most: int,
                before: datetime | None = None) -> int:
        """End executions that wait and can't be begun, or have waited too long.

        :param most: that are ended at once.
        :param before: only those that have waited since before that time.
        :returns: how many there were.
        """
        outcome = states.error(reason)
        ids = self._queue.end(group, outcome, most, before)
        for execution_id in ids:
            metrics.ENDED.labels(outcome.status, outcome.reason).inc()
            LOG.info("Execution %s ended: %s.", execution_id, outcome.status)
            self._wakeup.send(ENDED, execution_id)
        return len(ids)

    def put_back(self, fence: states.Fence, started_at: datetime | None,
                 project_id: str = "") -> None:
        """Return an execution that was not started; the attempt does not count.

        :param started_at: as its record says.
        :param project_id: whose it is, if that is known.
        """
        def write() -> None:
            self._queue.put_back(fence, started_at)
            self._waiters.ended(fence.execution_id)  # it may have been cancelled
            self._wakeup.ring(project_id)

        try:
            write()
        except _AWAY:
            self._outbox.keep(fence.execution_id,
                              f"The return of execution {fence.execution_id} to the queue",
                              _OVERHEAD, write)

    def _keep(self, fence: states.Fence, outcome: states.Outcome, sink: logs.Sink | None,
              now: datetime, awaited: bool, repeat: Repeat) -> None:
        def write() -> None:
            try:
                self._write(fence, outcome, sink, now, awaited, repeat)
            except _AWAY:
                raise
            except Exception:
                LOG.exception("%s can't be written.", what)
                self._write(fence, states.error(_BROKEN), None, now, True, repeat)

        what = f"The outcome of execution {fence.execution_id}, attempt {fence.attempt},"
        size = len(json.dumps(outcome.result)) + (sink.waiting if sink else 0) + _OVERHEAD
        if not self._outbox.keep(fence.execution_id, what, size, write):
            LOG.error("%s is lost: too much waits for the database.", what)
            self._keep_broken(fence, _TOO_MUCH, now, repeat)

    def _keep_broken(self, fence: states.Fence, reason: str, now: datetime,
                     repeat: Repeat) -> None:
        """Have an attempt ended whose own outcome can't be kept."""
        self._outbox.keep(
            fence.execution_id, f"The end of execution {fence.execution_id}", 0,
            lambda: self._write(fence, states.error(reason), None, now, True, repeat))

    def _write(self, fence: states.Fence, outcome: states.Outcome, sink: logs.Sink | None,
               now: datetime, awaited: bool, repeat: Repeat) -> Settled | None:
        try:
            return self._store(fence, outcome, sink, now, awaited, repeat)
        except exceptions.TooLarge:
            LOG.error("The result of execution %s, attempt %s, is larger than what the database"
                      " takes.", fence.execution_id, fence.attempt)
            return self._store(fence, states.error(_TOO_LARGE), sink, now, awaited, Repeat.NEVER)

    def _store(self, fence: states.Fence, outcome: states.Outcome, sink: logs.Sink | None,
               now: datetime, awaited: bool, repeat: Repeat) -> Settled | None:
        count = 0
        try:
            with self._database.writer() as connection:
                settled = attempts.settle(connection, fence, outcome, now, repeat)
                if settled is not None and sink is not None:
                    count = sink.store(connection)
        except BaseException:
            if sink is not None:
                sink.doubt()
            raise
        if settled is None:
            settled = self._look(fence, outcome, now)
        elif sink is not None:
            sink.stored(count)
        self._tell(fence, outcome, settled, awaited)
        return settled

    def _look(self, fence: states.Fence, outcome: states.Outcome,
              now: datetime) -> Settled | None:
        """Find out whether a write that seemed to fail had been carried out."""
        with self._database.reader() as connection:
            return attempts.settled_before(connection, fence, outcome, now)

    def _tell(self, fence: states.Fence, outcome: states.Outcome, settled: Settled | None,
              awaited: bool) -> None:
        if settled is None:
            LOG.warning("Execution %s, attempt %s: the outcome came too late and was dropped.",
                        fence.execution_id, fence.attempt)
        elif settled.status == states.RUNNING:
            LOG.warning("Execution %s, attempt %s: %s; it is attempted again.",
                        fence.execution_id, fence.attempt, outcome.status)
            self._wakeup.send(QUEUE)
            return
        else:
            metrics.ENDED.labels(settled.status, outcome.reason).inc()
            LOG.info("Execution %s ended: %s.", fence.execution_id, settled.status)
        if awaited or (settled is not None and settled.status == states.CANCELLED):
            self._wakeup.send(ENDED, fence.execution_id)
        else:
            self._waiters.ended(fence.execution_id)
