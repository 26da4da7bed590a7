# SPDX-License-Identifier: Apache-2.0
"""Processes with a mark: which of a run's are left."""

from __future__ import annotations

import pathlib

from tests.functional import processes


def marked(mark: str) -> list[int]:
    """Processes with a mark in their command line."""
    found = []
    for path in pathlib.Path("/proc").iterdir():
        if path.name.isdigit() and mark in processes.command(int(path.name)):
            found.append(int(path.name))
    return found
