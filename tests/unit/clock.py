# SPDX-License-Identifier: Apache-2.0
"""A clock that tests put in the place of a module's ``time``."""


class Clock:
    """Time that passes only when ``now`` is changed, in seconds."""

    def __init__(self, now=1000.0):
        self.now = now

    def monotonic(self):
        return self.now
