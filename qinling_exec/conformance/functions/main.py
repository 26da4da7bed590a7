# SPDX-License-Identifier: Apache-2.0
"""What the checks call, in Python."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

state = {"calls": 0}
_NOTHING: list[Any] = []


def _ancestors() -> dict[str, bool]:
    """Return which files with the memory and environment of processes above can be opened."""
    found: dict[str, bool] = {}
    process = _parent("self")
    while process not in ("", "0"):
        for name in ("mem", "environ"):
            try:
                open(f"/proc/{process}/{name}", "rb").close()
                found[f"{process}/{name}"] = True
            except OSError:
                found[f"{process}/{name}"] = False
        process = _parent(process)
    return found


def _parent(process: str) -> str:
    """Return the parent as ``/proc`` has it, empty where nothing is told of it."""
    try:
        with open(f"/proc/{process}/status") as file:
            return next(line.split()[1] for line in file if line.startswith("PPid:"))
    except OSError:
        return ""


def main(*values: Any, context: Any = None, do: str = "return", value: Any = _NOTHING,
         text: str = "", seconds: float = 0, size: int = 0) -> Any:
    """Do what a check asks for; one that asks for nothing gets back what it gave."""
    if value is _NOTHING:
        value = {"values": list(values)}
    if text:
        print(text, flush=True)
    time.sleep(seconds)
    if do == "fail":
        raise ValueError(text)
    if do == "exit":
        os._exit(3)
    if do == "no-json":
        return {1, 2}
    if do == "context":
        return context
    if do == "size":
        return "x" * size
    if do == "print":
        sys.stdout.write("x" * size)
        return None
    if do == "memory":
        return len(bytearray(size))
    if do == "trace":
        found = [state["calls"], os.path.exists("trace"), "TRACE" in os.environ]
        state["calls"] += 1
        os.environ["TRACE"] = "1"
        open("trace", "w").close()
        return found
    if do == "environment":
        return dict(os.environ)
    if do == "ancestors":
        return _ancestors()
    return value
