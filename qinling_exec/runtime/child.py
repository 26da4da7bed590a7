# SPDX-License-Identifier: Apache-2.0
"""The process of one run: waits for its order, calls the function, reports what came of it.

It is made before it is needed. Each page of memory that it touches is copied, which is most of
what a run costs; so it does little, and what can be done in zygote and keeper is done there.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
import time
from typing import Any, NamedTuple

from qinling_exec.runtime import isolation, outcome, system
from qinling_exec.runtime.entry import Entry


class Work(NamedTuple):
    """What all runs of a worker have in common.

    entry: the function, None when it could not be had ahead of the runs.
    code: directory of the package.
    scratch: where keepers have their directories when there are no namespaces.
    """

    entry: Entry | None
    entry_name: str
    limits: dict[str, int]
    memory_size: int
    room: int
    code: str
    scratch: str
    isolation: isolation.Isolation


def main(work: Work, descriptors: list[int]) -> None:
    """Be a run; never returns.

    :param descriptors: the order, the log, the result, and the pipe that says when to begin.
    """
    order, log, result, begin = descriptors
    os.setsid()
    if work.isolation.namespaces:
        system.drop_capabilities()
    else:
        system.die_with_parent()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    if "numpy.random" in sys.modules:  # else all runs would draw the same numbers
        sys.modules["numpy.random"].seed()
    if os.read(begin, 1):
        os.close(begin)
        request = marshal.loads(os.pread(order, os.fstat(order).st_size, 0))
        os.close(order)
        _run(work, request, result)
    os._exit(0)


def _run(work: Work, request: dict[str, Any], result: int) -> None:
    me = os.getpid()
    began = time.monotonic()
    lines = ""
    try:
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
        try:
            stream.flush()
        except BaseException:  # whatever the function has put there
            continue
    if lines:
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
