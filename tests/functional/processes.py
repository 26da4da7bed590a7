# SPDX-License-Identifier: Apache-2.0
"""Looks at processes through /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

# A process: its id and its start time, which together are never used twice.
Key = tuple[int, int]

# Everything that was seen below a service; looked at again at the end of the session.
SEEN: set[Key] = set()


def _all() -> dict[int, tuple[int, int, str]]:
    """Return pid -> (parent, start time, state) of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name is in brackets and may hold anything, brackets too.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[int(entry.name)] = (int(fields[1]), int(fields[19]), fields[0])
    return found


def command(pid: int) -> str:
    """Return a process's command line."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return line.replace(b"\0", b" ").decode("utf8", "replace")


def marked(mark: str) -> list[str]:
    """Return the command lines with a mark of all processes of this machine, also in pods."""
    return [line for line in map(command, _all()) if mark in line]


def parent(pid: int) -> int | None:
    """Return the parent of a process, None when it is not there."""
    return _all().get(pid, (None,))[0]


def descendants(pid: int) -> dict[Key, str]:
    """Return the living processes below one, with their command lines."""
    everything = _all()
    below: dict[Key, str] = {}
    parents = {pid}
    while parents:
        children = {child for child, (parent, _, _) in everything.items() if parent in parents}
        for child in children:
            if everything[child][2] not in "ZX":
                below[child, everything[child][1]] = command(child)
        parents = children
    return below


def alive(keys: Iterable[Key]) -> dict[Key, str]:
    """Return those of the processes that are still there."""
    everything = _all()
    return {key: command(key[0]) for key in keys
            if key[0] in everything and everything[key[0]][1] == key[1]
            and everything[key[0]][2] not in "ZX"}


def kill(keys: Iterable[Key]) -> None:
    """Kill processes by their id, if they are still the same ones."""
    for pid, _ in alive(keys):
        with contextlib.suppress(ProcessLookupError):  # one that went with another
            os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], object], seconds: float) -> object:
    """Return the condition's value as soon as it is true, else its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.03)
    return value
