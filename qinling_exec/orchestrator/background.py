# SPDX-License-Identifier: Apache-2.0
"""Work that is done besides, and never twice at the same time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from qinling_exec.exceptions import Unavailable
from qinling_exec.orchestrator.base import OrchestratorUnavailable

LOG = logging.getLogger(__name__)
#: What work returns when nobody has to be told of it.
UNCHANGED = object()
#: After a failure, in seconds: the first pause, and the longest.
_PAUSE, _LONGEST_PAUSE = 0.2, 2.0


class Background:
    """Threads that do things.

    :param threads: things that are done at the same time.
    :param on_done: called after a thing that changed something.
    :param slow: things besides that may have to wait for some of the others.
    """

    def __init__(self, name: str, threads: int, on_done: Callable[[], object],
                 slow: int = 0) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._slow = ThreadPoolExecutor(slow or threads, thread_name_prefix=f"{name}-slow")
        self._on_done = on_done
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        #: Until when what failed rests, and for how long.
        self._failed: dict[str, tuple[float, float]] = {}

    def once(self, key: str, work: Callable[[], object], slow: bool = False) -> bool:
        """Do something unless it is being done, or has failed just now; tell which."""
        with self._lock:
            until, _ = self._failed.get(key, (0.0, 0.0))
            if key in self._busy or time.monotonic() < until:
                return False
            self._busy.add(key)
        (self._slow if slow else self._pool).submit(self._run, key, work)
        return True

    def busy(self) -> set[str]:
        """Return the keys of what is being done."""
        with self._lock:
            return set(self._busy)

    def stop(self) -> None:
        """Finish what was begun; drop the rest."""
        for pool in (self._slow, self._pool):
            pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, key: str, work: Callable[[], object]) -> None:
        changed, failed = UNCHANGED, True
        try:
            changed = work()
            failed = False
        except (Unavailable, OrchestratorUnavailable) as error:
            LOG.warning("Looking after %s failed; it is tried again: %s", key, error)
        except Exception:
            LOG.exception("Looking after %s failed; it is tried again.", key)
        finally:
            with self._lock:
                self._busy.discard(key)
                self._note(key, failed)
            if changed is not UNCHANGED:
                self._on_done()

    def _note(self, key: str, failed: bool) -> None:
        """Let what failed rest: who asks for it does so at every turn."""
        _, pause = self._failed.pop(key, (0.0, 0.0))
        if not failed:
            return
        now, pause = time.monotonic(), min(pause * 2 or _PAUSE, _LONGEST_PAUSE)
        # What is not asked for any more, its worker gone, is forgotten.
        for old in [old for old, (until, _) in self._failed.items()
                    if until < now - 10 * _LONGEST_PAUSE]:
            del self._failed[old]
        self._failed[key] = (now + pause, pause)
