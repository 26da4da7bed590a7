# SPDX-License-Identifier: Apache-2.0
"""Named points at which a test can kill or stop this process; in production they do nothing.

``QINLING_EXEC_FAULTPOINTS=claimed=kill,posted=stop`` in the environment arms them when this
module is imported: ``kill`` is SIGKILL, ``stop`` is SIGSTOP, ``raise`` an exception, ``hang``
never returns. ``claimed=kill:3`` acts when the point is reached for the third time.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "QINLING_EXEC_FAULTPOINTS"
#: After the claim; after a worker was chosen; while the worker runs it; its result is there and
#: not committed; committed and the client not answered; the row is committed and nothing runs.
#: Between the steps of making a worker of a pod: it was chosen, is the worker's, has its function,
#: and can be used.
POINTS = ("claimed", "worker-taken", "posted", "answered", "committed", "accepted",
          "pod-chosen", "pod-taken", "pod-specialized", "pod-recorded")
_ACTIONS = ("kill", "stop", "raise", "hang")


class Fault(Exception):
    """What an armed point raises."""


class _Point:
    """An armed point."""

    def __init__(self, action: str, countdown: int) -> None:
        self._action = action
        self._countdown = countdown
        self._lock = threading.Lock()

    def reach(self) -> None:
        with self._lock:
            self._countdown -= 1
            if self._countdown:
                return
        if self._action == "raise":
            raise Fault
        if self._action == "hang":
            threading.Event().wait()
        os.kill(os.getpid(), signal.SIGKILL if self._action == "kill" else signal.SIGSTOP)


def parse(text: str) -> dict[str, _Point] | None:
    """Return the points that a text arms, None when there are none.

    :raises ValueError: it names a point or an action that does not exist.
    """
    armed = {}
    for item in filter(None, text.split(",")):
        name, _, order = item.strip().partition("=")
        action, _, count = order.partition(":")
        if name not in POINTS or action not in _ACTIONS:
            raise ValueError(f"{VARIABLE}: unknown point or action: {item}")
        armed[name] = _Point(action, int(count or 1))
    return armed or None


_armed = parse(os.environ.get(VARIABLE, ""))


def reach(name: str) -> None:
    """Do what the environment ordered for a point; nothing otherwise."""
    if _armed is not None and name in _armed:
        _armed[name].reach()
