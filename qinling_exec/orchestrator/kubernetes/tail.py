# SPDX-License-Identifier: Apache-2.0
"""What the program in a pod prints, read while it runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from qinling_exec.orchestrator.base import OrchestratorError
from qinling_exec.orchestrator.kubernetes.client import ApiError, Client

LOG = logging.getLogger(__name__)
#: Between attempts to read, in seconds: the first, and the longest.
_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: Attempts to read the rest of the log of a pod that is over.
_LAST_TRIES = 3
#: That the node may be silent meanwhile, in seconds.
_REST_SECONDS = 10.0


class Tail:
    """Reads a pod's log as it grows, each byte once, however often it has to begin anew.

    :param on_log: tells whether more is wanted.
    :param skip: bytes that are known already.
    :param seconds: without a word after which the connection is made anew.
    """

    def __init__(self, client: Client, pod_name: str, on_log: Callable[[bytes], bool],
                 skip: int, seconds: float) -> None:
        self._client = client
        self._path = client.path("pods", pod_name, "log")
        self._on_log = on_log
        self._known = skip
        self._seconds = seconds
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="tail", daemon=True)

    def start(self) -> None:
        """Begin to read; the program must have started."""
        self._thread.start()

    def finish(self) -> None:
        """Read the rest of what the program, which is over, has printed.

        The node notices the end of a log that it hands over only after a while: it is asked once
        more.
        """
        self.leave()
        for _ in range(_LAST_TRIES):
            try:
                self._read(follow=False)
            except ApiError as error:
                LOG.warning("The rest of a log can't be read: %s", error)
                return  # it is gone with its pod
            except OrchestratorError as error:
                LOG.info("The rest of a log can't be read for now: %s", error)
                time.sleep(_PAUSE)
            else:
                return

    def leave(self) -> None:
        """Hand over no more; the thread goes when its connection does."""
        with self._lock:
            self._left.set()

    def _loop(self) -> None:
        pause = _PAUSE
        while not self._left.is_set():
            try:
                if not self._read(follow=True):
                    return
                pause = _PAUSE
            except OrchestratorError as error:
                LOG.info("A log can't be read for now: %s", error)
            except Exception:
                LOG.exception("A log can't be read.")
                return
            self._left.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _read(self, follow: bool) -> bool:
        """Read what there is, or comes; tell whether more is wanted."""
        skip = self._known
        silence = self._seconds if follow else _REST_SECONDS
        for piece in self._client.stream(self._path, silence, follow=str(follow).lower()):
            new = piece[skip:]
            skip = max(0, skip - len(piece))
            with self._lock:
                if follow and self._left.is_set():
                    return False
                self._known += len(new)
                if new and not self._on_log(new):
                    return False
        return True
