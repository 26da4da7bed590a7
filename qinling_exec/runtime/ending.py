# SPDX-License-Identifier: Apache-2.0
"""Tells when a worker is to end: SIGTERM, unless a run of its own sent it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    import asyncio

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


def watch(on_end: Callable[[], None]) -> None:
    """Call back in the running loop at SIGTERM or SIGINT.

    As the first process of a container a worker can't be killed from inside, but what it handles
    is delivered. Runs have the same user there, so any of them could end it. A signal from
    outside (the kubelet, the container's runtime) comes from a process that has no id in here.

    To be called before anything is started: what the worker starts inherits that these signals
    are held back, and has to undo it with :func:`restore`.
    """
    import asyncio  # these are not in the zygote, which every run is a copy of
    import threading

    loop = asyncio.get_running_loop()
    if os.getpid() != 1:
        for number in _NUMBERS:
            loop.add_signal_handler(number, on_end)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    threading.Thread(target=_wait, args=(loop, on_end), daemon=True).start()


def restore() -> None:
    """Let signals through again, in a process that the worker has started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)


def _wait(loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
    while signal.sigwaitinfo(_NUMBERS).si_pid != 0:
        pass
    loop.call_soon_threadsafe(on_end)
