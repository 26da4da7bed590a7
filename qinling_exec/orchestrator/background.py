# SPDX-License-Identifier: Apache-2.0
"""Work that is done besides, and never twice at the same time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from qinling_exec.exceptions import Unavailable
from qinling_exec.orchestrator.base import OrchestratorUnavailable

LOG = logging.getLogger(__name__)
#: What work returns when nobody has to be told of it.
UNCHANGED = object()


class Background:
    """Threads that do things.

    :param threads: things that are done at the same time.
    :param on_done: called after a thing that changed something, or failed.
    """

    def __init__(self, name: str, threads: int, on_done: Callable[[], object]) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._on_done = on_done
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def once(self, key: str, work: Callable[[], object]) -> bool:
        """Do something unless it is being done; tell which. It is logged when it fails."""
        with self._lock:
            if key in self._busy:
                return False
            self._busy.add(key)
        self._pool.submit(self._run, key, work)
        return True

    def busy(self) -> set[str]:
        """Return the keys of what is being done."""
        with self._lock:
            return set(self._busy)

    def stop(self) -> None:
        """Finish what was begun; drop the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, key: str, work: Callable[[], object]) -> None:
        changed: object = False
        try:
            changed = work()
        except (Unavailable, OrchestratorUnavailable) as error:
            LOG.warning("Looking after %s failed; it is tried again: %s", key, error)
        except Exception:
            LOG.exception("Looking after %s failed; it is tried again.", key)
        finally:
            with self._lock:
                self._busy.discard(key)
            if changed is not UNCHANGED:
                self._on_done()
