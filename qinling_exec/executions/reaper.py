# SPDX-License-Identifier: Apache-2.0
"""Takes care of what dead runners left behind, so that nothing stays ``running`` for ever."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from qinling_exec.db import clock, models
from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states
from qinling_exec.executions.dispatch import UNSURE
from qinling_exec.executions.ending import Ending
from qinling_exec.executions.holdings import Holdings
from qinling_exec.executions.images import Images
from qinling_exec.executions.leases import Runner
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.fleet import Fleet
from qinling_exec.orchestrator.workers import Worker

LOG = logging.getLogger(__name__)
_BATCH = 200
#: Orphans that are dealt with at the same time.
_THREADS = 16
#: That a sweep waits for those that it deals with, in seconds: a worker that hangs, with which one
#: of them has to do, must not keep it from noticing the next dead runner.
_PATIENCE = 0.5
#: Between sweeps at the least, in seconds.
_SHORTEST = 0.05
_REASON = (
    "The process that ran the execution died or lost its connection before the function"
    " answered. The function may have done its work in part."
)
#: Of a run of an image: the cluster knows nothing of it.
_GONE = ("The engine that ran the execution died, and the function's pod is not there any more, or"
         " never was. The function may have done its work in part.")
_runners = models.Runner.__table__
_workers = models.Worker.__table__


@dataclass(frozen=True)
class _Orphan:
    """A running execution whose runner is dead, and the worker that it was on.

    :param on_worker: False: it needs none, and may run on by itself.
    """

    fence: states.Fence
    started_at: datetime | None
    worker: Worker | None
    on_worker: bool
    project_id: str


class Reaper:
    """Looks for dead runners. Any number of reapers may do so at the same time.

    An orphan is taken over first, by compare-and-set; then its run is ended where it was; then
    it ends, or waits for another attempt. The run of an image is not ended: it is gone on with.
    So nothing runs twice at the same time. What an error stops on this way is gone on with at the
    next sweep, as long as this process lives; after that it is an orphan again.

    :param images: goes on with runs of images, None where there are none.
    :param lease: seconds without a heartbeat after which a runner is dead.
    :param every: seconds between sweeps at the most; there is one when a silent runner's lease
        ends.
    """

    def __init__(self, database: Database, runner: Runner, ending: Ending, holdings: Holdings,
                 fleet: Fleet, images: Images | None, lease: float, every: float) -> None:
        self._database = database
        self._runner = runner
        self._ending = ending
        self._holdings = holdings
        self._fleet = fleet
        self._images = images
        self._lease = lease
        self._every = every
        self._begun: dict[states.Fence, _Orphan] = {}  # by the fence that this runner has then
        self._going_on: set[states.Fence] = set()
        self._next_end = lease  # seconds until the next lease ends unless it is renewed
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="reap")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="reaper")

    def start(self) -> None:
        """Sweep again and again."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what was begun and stop."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown()

    def _loop(self) -> None:
        while not self._stop.wait(max(_SHORTEST, min(self._every, self._next_end))):
            self._next_end = self._lease
            try:
                if self._runner.may_judge:
                    self.sweep()
            except Exception as error:
                LOG.warning("Dead runners can't be looked for now: %s", error,
                            exc_info=not getattr(error, "code", None))

    def sweep(self) -> int:
        """Deal with the executions of dead runners, forget the runners and their workers.

        :returns: how many executions there were.
        """
        self._forget_dead()
        count = self._deal_with([])  # what was begun before
        while orphans := self._orphans():
            done = self._deal_with(orphans)
            if not done:  # others do it, or nobody can, or it takes a while
                break
            count += done
        for worker in self._abandoned():
            LOG.warning("Worker %s is ended: the engine that started it is dead.", worker.name)
            self._fleet.abandon(worker)
        return count

    def _forget_dead(self) -> None:
        with self._database.reader() as connection:
            limit = clock.read(connection) - timedelta(seconds=self._lease)
            rows = connection.execute(sa.select(_runners)).all()
        self._next_end = min(((row.heartbeat_at - limit).total_seconds() for row in rows
                              if row.heartbeat_at >= limit), default=self._lease)
        for row in rows:
            if row.heartbeat_at >= limit:
                continue
            LOG.warning("Runner %s (process %s on %s) is dead: no heartbeat since %s.", row.id,
                        row.pid, row.host, row.heartbeat_at)
            with self._database.writer() as connection:
                connection.execute(sa.delete(_runners).where(
                    _runners.c.id == row.id, _runners.c.heartbeat_at == row.heartbeat_at
                ))

    def _orphans(self) -> list[_Orphan]:
        """Return running executions whose runner is not there."""
        table = records.table
        alive = sa.exists().where(_runners.c.id == table.c.runner_id)
        query = sa.select(
            table.c.id, table.c.runner_id, table.c.attempts, table.c.started_at, table.c.worker,
            table.c.project_id,
        ).where(
            table.c.status == states.RUNNING, table.c.runner_id > "", ~alive
        ).limit(_BATCH)
        with self._database.reader() as connection:
            rows = connection.execute(query).all()
            names = {row.worker for row in rows} - {None}
            found = connection.execute(sa.select(_workers).where(_workers.c.name.in_(names)))
            there = {row.name: workers.build(row) for row in found}
        return [_Orphan(states.Fence(*row[:3]), row.started_at, there.get(row.worker),
                        row.worker is not None, row.project_id) for row in rows]

    def _deal_with(self, orphans: list[_Orphan]) -> int:
        """Bring orphans, and what was begun, to an end or back into the queue.

        :returns: with how many of them that was done; it goes on with the rest.
        """
        for orphan in orphans:
            taken = states.Fence(orphan.fence.execution_id, self._runner.id, orphan.fence.attempt)
            if taken not in self._begun:
                self._holdings.hold(taken.execution_id)
                self._begun[taken] = orphan
        idle = [taken for taken in list(self._begun) if taken not in self._going_on]
        self._going_on.update(idle)
        done, _ = wait([self._pool.submit(self._go_on, taken) for taken in idle], _PATIENCE)
        return sum(future.result() for future in done)

    def _go_on(self, taken: states.Fence) -> bool:
        try:
            return self._bring_on(taken)
        finally:
            self._going_on.discard(taken)

    def _bring_on(self, taken: states.Fence) -> bool:
        orphan = self._begun[taken]
        try:
            mine = self._take_over(orphan, taken)
            if mine:
                self._end(orphan, taken)
        except Exception as error:
            # It may be this runner's by now: nobody else looks after it, and what it ran may
            # go on. It must not go back into the queue like something that never began.
            LOG.warning("Execution %s can't be taken care of now: %s", taken.execution_id, error,
                        exc_info=not getattr(error, "code", None))
            return False
        del self._begun[taken]
        self._holdings.let_go(taken.execution_id)
        return mine

    def _end(self, orphan: _Orphan, taken: states.Fence) -> None:
        LOG.warning("Execution %s, attempt %s: its runner %s is dead.", taken.execution_id,
                    taken.attempt, orphan.fence.runner_id)
        certain = self._end_run(orphan.worker, taken.execution_id)
        if self._images is not None and not orphan.on_worker:
            self._images.adopt(taken, orphan.project_id, orphan.started_at,
                               states.error(_GONE, "deleted"))
            return
        outcome = states.error(_REASON if certain else _REASON + UNSURE, final=not certain)
        self._ending.finish(taken, outcome, awaited=True)

    def _end_run(self, worker: Worker | None, execution_id: str) -> bool:
        """See that what a dead runner left on a worker has ended; False: it may go on."""
        if worker is None or worker.address is None:
            return True
        try:
            self._fleet.end_run(worker, execution_id)
        except TimeoutError as error:
            LOG.warning("Worker %s could not be given up: %s", worker.name, error)
            return False
        return True

    def _take_over(self, orphan: _Orphan, taken: states.Fence) -> bool:
        """Make an orphan this runner's, unless that is so already; False: another was faster."""
        table = records.table
        alive = sa.exists().where(_runners.c.id == orphan.fence.runner_id)
        with self._database.writer() as connection:
            changed = connection.execute(
                sa.update(table).where(*records.held_by(orphan.fence), ~alive)
                .values(runner_id=taken.runner_id)
            )
            if changed.rowcount:
                return True
            # Not one that was claimed meanwhile: that has begun at another time.
            found = connection.execute(sa.select(table.c.id).where(
                *records.held_by(taken), table.c.started_at == orphan.started_at))
            return found.first() is not None

    def _abandoned(self) -> list[Worker]:
        """Return workers of dead engines."""
        alive = sa.exists().where(_runners.c.id == _workers.c.runner_id)
        query = sa.select(_workers).where(_workers.c.runner_id.is_not(None), ~alive)
        with self._database.reader() as connection:
            return [workers.build(row) for row in connection.execute(query)]
