# SPDX-License-Identifier: Apache-2.0
"""A worker that neither answers nor ends a run, and that another process looks after."""

from __future__ import annotations

import logging
import time

from qinling_exec.exceptions import Unavailable
from qinling_exec.orchestrator.wire import Wire
from qinling_exec.orchestrator.workers import Worker, Workers

LOG = logging.getLogger(__name__)
#: Until somebody has ended it, at the most, and between looks whether that is so, in seconds.
_PATIENCE, _LOOK = 40.0, 0.1


def have_ended(table: Workers, wire: Wire, worker: Worker, by_any: bool) -> None:
    """Have an engine end a worker, and wait until it is gone with all that runs there.

    :param by_any: any engine can end it, not only the one that started it.
    :raises TimeoutError: no engine has done so.
    """
    if wire.is_gone(worker):
        table.remove(worker.name)
        table.wakeup.ring()
        return
    LOG.warning("Worker %s neither answers nor ends a run: it is to be ended.", worker.name)
    table.give_up(worker.name, by_any)
    until = time.monotonic() + _PATIENCE
    # A local one's row goes with its engine, too, and the process perhaps not.
    while not (_is_told(table, worker) and (by_any or wire.is_gone(worker))):
        if time.monotonic() > until:
            raise TimeoutError("no engine has ended it")
        time.sleep(_LOOK)


def _is_told(table: Workers, worker: Worker) -> bool:
    try:
        return table.loss(worker.name) is not None
    except Unavailable:  # it is asked again
        return False
