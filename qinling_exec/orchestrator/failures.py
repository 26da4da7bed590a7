# SPDX-License-Identifier: Apache-2.0
"""Why workers could not be started: what waits for one is told when more tries seem in vain."""

from __future__ import annotations

#: Failed starts in a row after which that is so.
_TRIES = 3


class Failures:
    """Counts failed starts of workers, by what they were to be."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, str]] = {}

    def note(self, fingerprint: str, reason: str, hopeless: bool = False) -> None:
        """Note a failed start. :param hopeless: another try would not change it."""
        tries = self._known.get(fingerprint, (0, ""))[0] + (_TRIES if hopeless else 1)
        self._known[fingerprint] = (tries, reason)

    def forget(self, fingerprint: str) -> None:
        """Note a start that went well."""
        self._known.pop(fingerprint, None)

    def certain(self, fingerprint: str) -> str | None:
        """Return, once, why no worker of a shape can be had; None while it is not certain."""
        tries, reason = self._known.get(fingerprint, (0, ""))
        if tries < _TRIES:
            return None
        self.forget(fingerprint)
        return reason
