# SPDX-License-Identifier: Apache-2.0
"""The process that has imported the function's package, and forks once for each run.

It is single-threaded, so that forking is safe. Between it and the function stands a supervisor,
forked too, which ends the run's whole tree of processes.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import traceback
from typing import Any, Dict, Optional, Set

from qinling_exec.runtime import child, isolation, system

_MESSAGE = 65536


class Zygote:
    """Serves the orders of the server, which come over a socket with descriptors."""

    def __init__(self, control: socket.socket, order: Dict[str, Any]) -> None:
        self._control = control
        self._code: str = order["code"]
        self._entry: str = order["entry"]
        self._limits: Dict[str, int] = order["limits"]
        self._memory: int = order["memory_size"]
        self._scratch: str = order["scratch"]
        self._isolation = isolation.Isolation(order["user"], order["namespaces"])
        self._preload: bool = order.get("preload", True)
        self._supervisors: Set[int] = set()

    def load(self) -> None:
        """Import the package as a user without rights; a failure is each run's own to tell."""
        isolation.become(self._isolation.user, [self._code, self._scratch])
        sys.path.insert(0, self._code)
        os.environ.clear()
        if self._preload:
            with contextlib.suppress(BaseException):
                importlib.import_module(self._entry.rpartition(".")[0])
        gc.collect()
        gc.freeze()  # the garbage collector of a run leaves shared pages alone

    def serve(self) -> None:
        """Order runs until the server goes away.

        The next run's processes are made while this one goes on: a fork and namespaces of its
        own take longer than most functions.
        """
        signal.signal(signal.SIGCHLD, self._reap)
        self._control.send(b"ready")
        spare = self._prepare()
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE, 4)
            if not message:
                os._exit(0)
            for _ in range(3):
                try:
                    socket.send_fds(spare, [message], descriptors)
                    break
                except OSError:  # something killed it while it waited
                    spare.close()
                    spare = self._prepare()
            for descriptor in descriptors:
                os.close(descriptor)
            spare.close()
            spare = self._prepare()

    def _prepare(self) -> socket.socket:
        """Fork a run that waits for its order; return where it takes that."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Held back: a supervisor that ends at once must be known when it is reaped.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
                    self._control.close()
                    ours.close()
                    self._supervise(theirs)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            self._supervisors.add(pid)
        except OSError:
            pass  # no process can be had: who orders a run sees that nobody listens
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            theirs.close()
        return ours

    def _reap(self, _number: int, _frame: Any) -> None:
        stray = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            stray |= status != 0 or pid not in self._supervisors
            self._supervisors.discard(pid)
        if stray:  # a supervisor was killed: what it looked after is a child of this process now
            system.kill_strays(self._supervisors)

    def _supervise(self, orders: socket.socket) -> None:
        """Run one function in a child and end everything that comes of it."""
        system.adopt_orphans()
        scratch = os.path.join(self._scratch, "run-%d" % os.getpid())
        directory = isolation.enter(self._isolation, self._code, scratch,
                                    self._limits["scratch_size"])
        passed_on, taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            orders.close()
            passed_on.close()
            self._run(taken, directory)
        taken.close()
        control = None if _wait(pid, orders) is False else _pass_on(orders, passed_on)
        killed = control is not None and _wait(pid, control)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        system.kill(pid)
        status = os.waitpid(pid, 0)[1]
        system.kill_descendants()
        if not self._isolation.namespaces:
            shutil.rmtree(scratch, ignore_errors=True)
        if control is not None:
            with contextlib.suppress(OSError):
                control.send(json.dumps({"status": status, "killed": killed}).encode())
        os._exit(0)

    def _run(self, orders: socket.socket, directory: str) -> None:
        """Be the process of a run; wait for its order."""
        try:
            os.setsid()
            system.die_with_parent()
            child.settle(directory)
            isolation.confine(self._isolation, self._limits)
            message, descriptors, _, _ = socket.recv_fds(orders, 16, 3)
            if not message:
                os._exit(0)
            request, log, result = descriptors
            with open(request, "rb") as file:
                file.seek(0)
                what = json.load(file)
            output = child.connect(log, result)
            child.run(what, self._entry, output, self._limits["result_size"],
                      lambda: isolation.confine_memory(self._memory))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)


def _pass_on(orders: socket.socket, run: socket.socket) -> Optional[socket.socket]:
    """Take the order of a run and give it its part; return the server's end of control."""
    message, descriptors, _, _ = socket.recv_fds(orders, _MESSAGE, 4)
    orders.close()
    if not message:
        return None
    control = socket.socket(fileno=descriptors[3])
    with contextlib.suppress(OSError):
        control.send(b"%d" % os.getpid())
        socket.send_fds(run, [message], descriptors[:3])
    for descriptor in descriptors[:3]:
        os.close(descriptor)
    run.close()
    return control


def _wait(pid: int, control: socket.socket) -> bool:
    """Wait until a process ends or the socket has something; tell whether it was the latter."""
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):
        while not select.select([control], [], [], 0.005)[0]:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return False
        return True
    poll = select.poll()
    poll.register(control, select.POLLIN | select.POLLHUP)
    poll.register(handle, select.POLLIN)
    ready = {number for number, _ in poll.poll()}
    os.close(handle)
    return handle not in ready


def main() -> None:
    """Start as ``python -m qinling_exec.runtime.zygote DESCRIPTOR``."""
    system.adopt_orphans()
    control = socket.socket(fileno=int(sys.argv[1]))
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    message = control.recv(_MESSAGE)  # a generic zygote waits here until its function is known
    if not message:
        return
    zygote = Zygote(control, json.loads(message))
    os.close(null)
    zygote.load()
    zygote.serve()


if __name__ == "__main__":
    main()
