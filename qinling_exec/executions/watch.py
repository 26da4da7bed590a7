# SPDX-License-Identifier: Apache-2.0
"""Ends runs of this process that are to be cancelled or whose executions are gone."""

from __future__ import annotations

import logging
import threading

import sqlalchemy as sa

from qinling_exec.db.engine import Database
from qinling_exec.executions import records, states
from qinling_exec.executions.dispatch import Dispatch
from qinling_exec.executions.images import Images

LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.4

_table = records.table


class Watch:
    """Looks at the records of what runs here, some times a second while something does."""

    def __init__(self, database: Database, dispatcher: Dispatch) -> None:
        self._database = database
        #: What runs here; an engine adds its runs of images.
        self.parts: list[Dispatch | Images] = [dispatcher]
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="run-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        self._stop.set()
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join()

    def hear(self, execution_id: str) -> None:
        """Look at once if an execution runs here: somebody wants it to be cancelled."""
        if any(part.has(execution_id) for part in self.parts):
            self._bell.set()

    def _loop(self) -> None:
        failed = False
        while not self._stop.is_set():
            self._bell.wait(_LOOK_SECONDS)
            self._bell.clear()
            try:
                self.look()
                failed = False
            except Exception as error:
                if not failed:
                    LOG.warning("Running executions can't be looked at now: %s", error)
                failed = True

    def look(self) -> None:
        """End the runs that are to end."""
        going = {fence: part for part in self.parts for fence in part.fences()}
        if not going:
            return
        query = sa.select(
            _table.c.id, _table.c.runner_id, _table.c.attempts, _table.c.cancel_requested_at
        ).where(_table.c.id.in_([fence.execution_id for fence in going]),
                records.NOT_ENDED)
        with self._database.reader() as connection:
            rows = connection.execute(query).all()
        held = {states.Fence(*row[:3]): row.cancel_requested_at for row in rows}
        for fence, part in going.items():
            if fence not in held:
                if _end(part, fence, asked=False):  # it may have ended since the look
                    LOG.warning("Execution %s is not this process's any more: its run is ended.",
                                fence.execution_id)
            elif held[fence] is not None:
                _end(part, fence, asked=True)


def _end(part: Dispatch | Images, fence: states.Fence, asked: bool) -> bool:
    """End a run in a thread of its own: its worker may take a while, or hang.

    :returns: False when it does not go on any more, or is being ended.
    """
    marked = part.mark(fence, asked)
    if marked:
        threading.Thread(target=part.end, args=(fence,), name="end-run", daemon=True).start()
    return marked
