# SPDX-License-Identifier: Apache-2.0
"""Directories of local workers: each belongs to one process, and is removed after it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from typing import IO

from qinling_exec.orchestrator.base import OrchestratorError

_PREFIX, _LOCK = "qx-", "lock"
#: What a Unix socket's path may have, with its final NUL left out.
_LONGEST_PATH = 107


def make(parent: pathlib.Path) -> tuple[pathlib.Path, IO[str]]:
    """Make a directory for this process alone, and remove those of processes that were killed.

    :returns: the directory and a file that is locked as long as this process lives.
    """
    parent = parent.absolute()
    if len(f"{parent}/{_PREFIX}12345678/1234567/sock") > _LONGEST_PATH:
        raise OrchestratorError(f"[process] run_directory: the path {parent} is too long for Unix"
                                " sockets; choose a shorter one.")
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError), old.open() as file:
            if old.stat().st_uid == os.geteuid():
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old.parent, ignore_errors=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    mine = (directory / "new").open("w")
    fcntl.flock(mine, fcntl.LOCK_EX)
    (directory / "new").rename(directory / _LOCK)  # locked before others can look at it
    directory.chmod(0o711)
    return directory, mine
