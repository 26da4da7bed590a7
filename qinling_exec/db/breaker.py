# SPDX-License-Identifier: Apache-2.0
"""Fails at once what would have to wait for a database that is known to be down."""

from __future__ import annotations

import logging
import threading
import time

from qinling_exec import exceptions

LOG = logging.getLogger(__name__)


class Breaker:
    """Lets everything through while the database is up, and one probe at a time while it is not.

    Without it every thread of a process would sit in a connect or a read that can only time out,
    and requests that need no database would find no thread.

    :param pause: seconds between two probes.
    :param patience: seconds after which a probe that has not come back is no reason to wait.
    """

    def __init__(self, pause: float, patience: float) -> None:
        self._pause = pause
        self._patience = patience
        self._lock = threading.Lock()
        self._down = False
        self._next_probe = 0.0

    @property
    def is_down(self) -> bool:
        """True from a failure to reach the database until something has reached it."""
        return self._down

    def check(self) -> None:
        """Pass before anything that talks to the database, and tell :meth:`trip` or
        :meth:`reset` what came of it.

        :raises qinling_exec.exceptions.Unavailable: the database is down, and it is not yet time
            to look again.
        """
        if not self._down:
            return
        with self._lock:
            now = time.monotonic()
            if self._down and now < self._next_probe:
                raise exceptions.Unavailable("The database can't be reached. Try again later.")
            # The others wait for this one, whose failure sets the time anew.
            self._next_probe = now + self._patience

    def reset(self) -> None:
        """Take the database for up: it has answered."""
        if self._down:
            self._down = False
            LOG.info("The database is back.")

    def trip(self, error: BaseException) -> None:
        """Take the database for down: a connect failed, or it has stopped to answer."""
        with self._lock:
            if not self._down:
                reason = str(error).partition("\n[SQL:")[0]  # nothing that is stored
                LOG.error("The database can't be reached; it is tried again every %g s. %s",
                          self._pause, reason)
            self._down = True
            self._next_probe = time.monotonic() + self._pause
