# SPDX-License-Identifier: Apache-2.0
"""The process of one run: waits for its order, calls the function, reports what came of it.

It is made before it is needed. Each page of memory that it touches is copied, which is most of
what a run costs; so it does little, and what can be done in the zygote is done there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from qinling_exec.runtime import isolation, outcome, system
from qinling_exec.runtime.entry import Entry


@dataclass
class Work:
    """What all runs of a worker have in common.

    entry: the function, None when it could not be had ahead of the runs.
    scratch: where runs have their directories when there are no namespaces.
    """

    entry: Entry | None
    entry_name: str
    limits: dict[str, int]
    memory_size: int
    room: int
    scratch: str
    isolation: isolation.Isolation


def main(work: Work, descriptors: list[int]) -> None:
    """Be a run; never returns.

    :param descriptors: the order, the log, the result, and the pipe that says when to begin.
    """
    order, log, result, begin = descriptors
    os.setsid()
    system.die_with_parent()
    directory = isolation.run_surroundings(work.isolation, work.scratch, f"run-{os.getpid()}",
                                           work.limits["scratch_size"])
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ["HOME"] = os.environ["TMPDIR"] = directory
    os.chdir(directory)
    os.umask(0o022)
    _forget()
    isolation.confine(work.isolation, work.limits, work.room)
    if os.read(begin, 1):
        os.close(begin)
        request = json.loads(os.pread(order, os.fstat(order).st_size, 0))
        os.close(order)
        _run(work, request, result)
    os._exit(0)


def _forget() -> None:
    """Undo what the zygote, or a module that it imported, fixed for its own process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    if "numpy.random" in sys.modules:  # else all runs would draw the same numbers
        sys.modules["numpy.random"].seed()


def _run(work: Work, request: dict[str, Any], result: int) -> None:
    me = os.getpid()
    began = time.monotonic()
    lines = ""
    try:
        isolation.confine_memory(work.memory_size)
        entry = work.entry or Entry(work.entry_name)
        began = time.monotonic()
        answer = {"success": True, "output": entry.call(request), "reason": None}
    except BaseException as error:
        duration = time.monotonic() - began
        answer, lines = outcome.failure(error)
    else:
        duration = time.monotonic() - began
    if os.getpid() != me:
        os._exit(0)  # a process that the function forked and let return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    with contextlib.suppress(OSError):  # the function may have closed it
        _write(2, lines.encode("utf-8", "backslashreplace"))
    answer["duration"] = round(duration, 3)
    try:
        data = outcome.frame(answer, work.limits["result_size"])
    except MemoryError:
        answer = {**answer, "success": False, "output": outcome.RESOURCES, "reason": "memory"}
        data = outcome.frame(answer, work.limits["result_size"])
    try:
        _write(result, data)
    except OSError:
        os._exit(outcome.CLOSED)
    os._exit(0)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view):]
