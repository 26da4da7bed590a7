# SPDX-License-Identifier: Apache-2.0
"""What runs leave in directories that they share, where the kernel gives each none of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from qinling_exec.runtime import surroundings

#: Where the programs of a container may write, most likely.
_SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")


def shared() -> list[str]:
    """Return the directories that the runs of a container share."""
    return [path for path in _SHARED if os.path.isdir(path) and os.access(path, os.W_OK)]


class Leftovers:
    """Empties directories whenever no run is going on.

    Whose a file is nobody can tell while there are several runs: they have the same user.

    :param directories: where runs leave things, and nobody else has any.
    :param own: directory of the worker, which stays.
    """

    def __init__(self, directories: list[str], own: str) -> None:
        self._directories = directories
        self._own = os.path.realpath(own)
        self._users = 0
        self._removing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """A run goes on; it begins when nothing is left of those that were before."""
        async with self._removing:
            self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and (found := self._find()):
                async with self._removing:
                    await asyncio.get_running_loop().run_in_executor(None, _remove, found)

    def _find(self) -> list[str]:
        """Return what is there, but for what leads to the worker's own directory."""
        found: list[str] = []
        for directory in self._directories:
            with contextlib.suppress(OSError):
                found += (os.path.join(directory, name) for name in os.listdir(directory))
        return [path for path in found if not f"{self._own}/".startswith(f"{path}/")]


def _remove(paths: list[str]) -> None:
    for path in paths:
        surroundings.remove(path)
