# SPDX-License-Identifier: Apache-2.0
"""The process that imports the function's package once, and forks the keepers of runs.

It is single-threaded, so that forking is safe, and loads little, so that forking is cheap: no
module here imports ``dataclasses`` or ``inspect``, which are a fifth of what would be copied.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import socket
import sys
import traceback
from _thread import stack_size
from typing import Any

from qinling_exec.runtime import ending, isolation, surroundings, system
from qinling_exec.runtime.child import Work
from qinling_exec.runtime.entry import Entry
from qinling_exec.runtime.keeper import Keeper

_MESSAGE = 65536


class Zygote:
    """Serves the server, which sends the control socket of each keeper that it wants."""

    def __init__(self, control: socket.socket, order: dict[str, Any]) -> None:
        self._control = control
        self._preload: bool = order["preload"]
        self._work = Work(
            None, order["entry"], order["limits"], order["memory_size"], order["room"],
            order["code"], order["scratch"], isolation.Isolation(**order["isolation"]))
        #: Where there are no namespaces: the directory of each, and those of dead ones.
        self._keepers: dict[int, str] = {}
        self._left: list[str] = []

    def load(self) -> None:
        """Import the package as a user without rights; a failure is each run's own to tell."""
        kept_apart = self._work.isolation
        isolation.become(kept_apart.user, [self._work.code, self._work.scratch])
        if kept_apart.namespaces:
            self._work = self._work._replace(code=surroundings.of_zygote(
                self._work.code, self._work.limits["scratch_size"]))
        else:
            system.set_dumpable(False)  # runs have the same user here
        system.die_with_parent()  # the package may hang, and never see that the server is gone
        if system.hung_up(self._control):
            os._exit(0)  # it was gone before that
        _open_streams()
        os.chdir("/")
        os.umask(0o022)
        os.environ.clear()
        os.environ.update({"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8",
                           "HOME": "/tmp", "TMPDIR": "/tmp"})
        sys.path[0] = self._work.code  # in place of the working directory
        sys.argv = [""]
        sys.dont_write_bytecode = True
        stack_size(1 << 20)  # address space is what a run's memory is measured in
        if self._preload:
            with contextlib.suppress(BaseException):
                self._work = self._work._replace(entry=Entry(self._work.entry_name))
        system.die_with_parent(False)
        gc.collect()
        gc.freeze()  # the garbage collector of a run leaves shared pages alone

    def serve(self) -> None:
        """Fork keepers until the server goes away; never returns."""
        # Where each run has its own namespaces nobody is waited for, and what has ended is gone at
        # once: what is not counts against the processes that a run may have.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN if self._work.isolation.namespaces
                      else self._reap)
        self._control.send(b"ready")
        while True:
            message, descriptors = system.receive(self._control, 1)
            if not message:
                system.kill_descendants()  # keepers, and what the package started on import
                os._exit(0)
            # Held back: a keeper that ends at once must be known when it is reaped.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
            with contextlib.suppress(OSError):  # no process can be had: the server sees an end
                self._fork(socket.socket(fileno=descriptors[0]))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

    def _fork(self, control: socket.socket) -> None:
        # Nobody can guess the name, and so change the mode of what is not theirs to read.
        home = os.path.join(self._work.scratch, os.urandom(6).hex())
        pid = os.fork()
        if pid:
            control.close()
            self._left.clear()
            if not self._work.isolation.namespaces:
                self._keepers[pid] = home
            return
        try:
            self._control.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            if self._work.isolation.namespaces:
                system.own_users(pids=True)
                here = os.pidfd_open(os.getpid())
                if os.fork():
                    os._exit(0)
                system.await_end(here)
            control.send(os.readlink("/proc/self").encode())  # the id that the server sees
            if self._work.isolation.hidden:
                system.mount_proc()
            for path in self._left:
                surroundings.remove(path)
            Keeper(control, self._work, home).serve()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _reap(self, _number: int, _frame: Any) -> None:
        stray = False
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            stray = True
            if pid in self._keepers:
                self._left.append(self._keepers.pop(pid))
        if stray:
            # A keeper was killed: what it looked after is below this process now.
            system.kill_strays(set(self._keepers))


def _open_streams() -> None:
    """Make streams whose every write reaches the descriptor: what was printed is kept.

    They are made before the package is imported: modules keep them, as logging does.
    """
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8",
                                  "backslashreplace", write_through=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def main() -> None:
    """Start as ``python -m qinling_exec.runtime.zygote DESCRIPTOR``."""
    ending.restore()
    system.adopt_orphans()
    control = socket.socket(fileno=int(sys.argv[1]))
    message = control.recv(_MESSAGE)  # a generic zygote waits here until its function is known
    if message:
        zygote = Zygote(control, json.loads(message))
        zygote.load()
        zygote.serve()


if __name__ == "__main__":
    main()
