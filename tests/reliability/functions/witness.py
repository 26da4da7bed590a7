# SPDX-License-Identifier: Apache-2.0
"""A function that tells a ledger what it does.

The connection stays open as long as any process of the run lives: its end is what the kernel says
about the end of the run, however that came.
"""

import os
import signal
import socket
import time


def main(ledger, seconds=0.0, lines=0, then="return", padding=0, host="127.0.0.1", later=None,
         timed=False, context=None, **_kwargs):
    """Be seen by the ledger, print, wait, and end in the way that is asked for.

    Attempts after the first wait for ``later`` seconds, if that is given. A line that is
    ``timed`` ends with when it was printed.
    """
    run = (context["execution_id"], context["attempt"])
    if run[1] > 1 and later is not None:
        seconds = later
    link = socket.create_connection((host, ledger), 10)
    _note(link, "start", run)
    for number in range(lines):
        rest = f"{time.time():.3f}" if timed else "x" * padding
        print(f"{run[0]} {run[1]} {number} {rest}", flush=True)
        time.sleep(seconds / lines)
    if not lines:
        time.sleep(seconds)
    _note(link, "end", run)
    os.set_inheritable(link.fileno(), True)
    ENDS[then.partition(":")[0]](run)
    # Not closed here: what comes after the function still belongs to the run.
    KEPT.append(link)
    return {"execution_id": run[0], "attempt": run[1]}


def _note(link, what, run):
    link.sendall(f"{what} {run[0]} {run[1]}\n".encode())
    if link.recv(3) != b"ok\n":
        raise RuntimeError("the ledger has gone")


def _raise(run):
    raise ValueError(f"attempt {run[1]} fails as it was asked to")


def _raise_first(run):
    if run[1] == 1:
        _raise(run)


def _linger(run):
    """Leave a child that ignores SIGTERM and a daemon behind, and wait."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        time.sleep(3600)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
    print("lingering", flush=True)
    time.sleep(3600)


def _fill_disk(run):
    """Write more than a pod may have on its disk, and wait for its end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a node calls whoever ends with 0 a success
    with open("/tmp/full", "wb") as file:
        for _ in range(64):
            file.write(bytes(2**20))
            file.flush()
    time.sleep(3600)


def _print_and_die(run):
    """Print without end, and be killed in the middle of it."""
    if os.fork() == 0:
        time.sleep(0.5)
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(0)
    while True:
        os.write(1, b"y" * 65536)


KEPT = []
ENDS = {
    "return": lambda run: None,
    "raise": _raise,
    "raise-first": _raise_first,
    "exit": lambda run: os._exit(0),
    "memory": lambda run: bytearray(2 << 30),
    "disk": _fill_disk,
    "hang": lambda run: time.sleep(3600),
    "linger": _linger,
    "print-and-die": _print_and_die,
    "kill-all": lambda run: os.kill(-1, signal.SIGKILL),
    "kill-parent": lambda run: os.kill(os.getppid(), signal.SIGKILL),
}
