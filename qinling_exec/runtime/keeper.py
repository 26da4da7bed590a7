# SPDX-License-Identifier: Apache-2.0
"""The process that looks after runs, one after the other: makes each, and ends all of it.

Where there are namespaces it is the first process of its own, so that a run can neither see nor
hurt anything outside, nor the keeper; elsewhere it adopts the orphans of its runs, finds what is
to be killed in /proc, and takes from itself, and so from them, what would hurt others.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback

from qinling_exec.runtime import child, isolation, outcome, surroundings, system

_NAMES = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))


class Keeper:
    """Serves one slot of the server.

    :param control: brings the descriptors of each run, then perhaps ``K``, which ends it; takes
        this process's id first, and the exit status of each run.
    :param home: directory to be made for this keeper alone, where there are no namespaces.
    """

    def __init__(self, control: socket.socket, work: child.Work, home: str) -> None:
        self._control = control
        self._work = work
        self._own = work.isolation.namespaces
        self._home = home
        self._surroundings = surroundings.Surroundings(self._own, home,
                                                       work.limits["scratch_size"])

    def serve(self) -> None:
        """Look after runs until the server goes away; never returns."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if "tempfile" in sys.modules:  # a module may have asked it before there was any run
            sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
        if not self._own:
            system.adopt_orphans()
        work = self._work
        isolation.confine(work.isolation, work.limits, work.memory_size, work.room, self._home,
                          work.code)
        before = _limits()
        while True:
            message, descriptors = system.receive(self._control, 4)
            if not message:
                return
            if not descriptors:
                continue  # K for a run that has just ended
            status = self._look_after(descriptors)
            # A run may set limits of this process, or mark its directory; the next one gets a new
            # keeper then.
            last = _limits() != before or self._surroundings.spoiled
            # On a disk even an empty directory takes a while, and nobody is to wait for it. Files
            # may take longer: who left them waits, and not the next one.
            later = self._surroundings.empty
            if not later:
                self._surroundings.remove()
            with contextlib.suppress(OSError):
                self._control.send(json.dumps({"status": status, "last": last}).encode())
            if later:
                self._surroundings.remove()
            if last:
                return

    def _look_after(self, descriptors: list[int]) -> int | None:
        self._surroundings.renew()
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid == 0:
            try:
                self._control.close()
                child.main(self._work, descriptors)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(outcome.UNPREPARED)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid == -1:
            return None
        handle = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(handle, select.POLLIN)
        while handle not in {number for number, _ in poll.poll()}:
            self._control.recv(64)  # K, or nothing at all: the server is gone
            system.kill(pid)
            poll.unregister(self._control)
        os.close(handle)
        return self._end(pid)

    def _end(self, pid: int) -> int:
        """Bury a run that has ended, with everything that it left; return its status."""
        if self._own:
            status = os.waitpid(pid, 0)[1]
            system.kill_namespace()
            return status
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # before the id is free for others
        status = os.waitpid(pid, 0)[1]
        system.kill_descendants()
        return status


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(name) for name in _NAMES]
