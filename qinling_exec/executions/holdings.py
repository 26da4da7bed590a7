# SPDX-License-Identifier: Apache-2.0
"""What this process holds, compared with what the database says it holds."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

import sqlalchemy as sa

from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states

LOG = logging.getLogger(__name__)


class Holdings:
    """The executions that this process has claimed and not let go of.

    A claim whose commit was cut off may be in the database without this process knowing: nobody
    would ever run it, and its runner is alive. So what the database ascribes to this process and
    nobody here knows, twice in a row, goes back into the queue.

    :param put_back: returns an execution that was not started, given the start of its claim.
    :param kept: tells whether a write about an execution waits for the database: what ran is
        this process's until that is done.
    """

    def __init__(self, database: Database,
                 put_back: Callable[[states.Fence, datetime], object],
                 kept: Callable[[str], bool]) -> None:
        self._database = database
        self._put_back = put_back
        self._kept = kept
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._held: Counter[str] = Counter()
        self._suspects: set[tuple[states.Fence, datetime]] = set()

    @contextlib.contextmanager
    def holding(self, execution_id: str) -> Iterator[None]:
        """Hold an execution meanwhile."""
        self.hold(execution_id)
        try:
            yield
        finally:
            self.let_go(execution_id)

    def hold(self, execution_id: str) -> None:
        """Note an execution as this process's, before it can be so in the database."""
        with self._lock:
            self._held[execution_id] += 1

    def let_go(self, execution_id: str) -> None:
        """Note that an execution has ended here, or was put back."""
        with self._lock:
            self._held[execution_id] -= 1
            if self._held[execution_id] <= 0:
                del self._held[execution_id]

    @contextlib.contextmanager
    def claiming(self) -> Iterator[None]:
        """Guard a claim until what it took is held."""
        with self._claiming:
            yield

    def check(self, runner_id: str) -> int:
        """Put back what nobody here knows of; return how many those were."""
        table = records.table
        query = sa.select(
            table.c.id, table.c.runner_id, table.c.attempts, table.c.started_at
        ).where(table.c.status == states.RUNNING, table.c.runner_id == runner_id)
        with self._database.reader() as connection:
            stored = {(states.Fence(*row[:3]), row.started_at)
                      for row in connection.execute(query)}
        with self._claiming, self._lock:  # a claim that was seen half-way is held by now
            unknown = {(fence, started_at) for fence, started_at in stored
                       if fence.execution_id not in self._held
                       and not self._kept(fence.execution_id)}
        strays = unknown & self._suspects
        self._suspects = unknown - strays
        for fence, started_at in strays:
            LOG.warning("Execution %s was claimed without anybody knowing; it goes back into the"
                        " queue.", fence.execution_id)
            self._put_back(fence, started_at)
        return len(strays)
