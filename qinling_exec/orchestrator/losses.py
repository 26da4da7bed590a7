# SPDX-License-Identifier: Apache-2.0
"""Why a worker was lost: an engine sees it in the cluster, and whoever had a run there asks."""

from __future__ import annotations

import logging
import time

from qinling_exec.exceptions import Unavailable
from qinling_exec.orchestrator.workers import Worker, Workers

LOG = logging.getLogger(__name__)
#: The cluster sees the end of a container after a second or two, that of a node after a minute:
#: nobody waits for that.
_SECONDS, _LOOK_SECONDS = 5.0, 0.1


class Losses:
    """Waits for what an engine writes down about a worker.

    :param told: engines do that: the orchestrator tells them why.
    """

    def __init__(self, table: Workers, told: bool) -> None:
        self._table = table
        self._told = told

    def why(self, worker: Worker) -> str:
        """Return why a worker that broke off is none any more; empty when nobody says so."""
        until = time.monotonic() + _SECONDS
        while self._told and time.monotonic() < until:
            try:
                found = self._table.loss(worker.name)
            except Unavailable as error:
                LOG.warning("Why worker %s was lost is not known: %s", worker.name, error)
                break
            if found is not None:
                return found
            time.sleep(_LOOK_SECONDS)
        return ""
