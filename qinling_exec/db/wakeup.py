# SPDX-License-Identifier: Apache-2.0
"""Tells the engine of this process that there is something to do."""

from __future__ import annotations

import threading


class Wakeup:
    """A bell: rung by whoever queued work, heard by the loop that does it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wake the listener, now or at its next wait."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait to be woken, ``seconds`` at the most; tell whether the bell rang."""
        rang = self._event.wait(seconds)
        self._event.clear()
        return rang
