# SPDX-License-Identifier: Apache-2.0
"""Tokens that Keystone has vouched for, kept in the process for a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

#: Where auth_token looks for a cache: the WSGI environment, under this name.
NAME = "qinling_exec.tokens"
_MOST = 10_000


class Tokens:
    """A cache with the two methods of a memcache client that auth_token calls.

    auth_token has one of its own, which never shrinks, and keeps one for each thread.

    :param most: entries; the one that was used least lately goes first.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """Return what is kept under a key, None when there is nothing or it is too old."""
        with self._lock:
            until, value = self._entries.get(key, (0.0, b""))
            if until <= time.monotonic():
                self._entries.pop(key, None)
                return None
            self._entries.move_to_end(key)
            return value

    def set(self, key: str, value: bytes, time: float) -> None:
        """Keep a value for so many seconds; for none, it is not kept."""
        if time > 0:
            with self._lock:
                self._entries[key] = _now() + time, value
                self._entries.move_to_end(key)
                while len(self._entries) > self._most:
                    self._entries.popitem(last=False)


def _now() -> float:
    return time.monotonic()
