# SPDX-License-Identifier: Apache-2.0
"""The server's side of one run: its log, its time, its outcome."""

from __future__ import annotations

import asyncio
import marshal
import os
import signal
import time
from typing import Any, Callable

from qinling_exec.runtime import outcome
from qinling_exec.runtime.slots import Channel, Slot

TIMEOUT = "Function execution timeout"
_READ = 65536
_GATHER_SECONDS = 0.02
#: What is read at the end, when all writers are dead: more than a pipe can hold.
_LAST_READS = 32


class Run:
    """One run, from its beginning until its result.

    :param order: the body of /execute.
    :param limits: ``log_size`` and ``result_size``, in bytes.
    :param on_log: takes what the run prints.
    :raises ValueError: the input is nested too deep.
    """

    def __init__(self, order: dict[str, Any], limits: dict[str, int],
                 on_log: Callable[[bytes], None]) -> None:
        self.id = str(order["execution_id"])
        # Not as JSON: reading that would make the run's process touch, and copy, more pages.
        self._order = marshal.dumps(order)
        self._timeout = float(order["timeout"])
        self._limits = limits
        self._on_log = on_log
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[bool] | None = None
        self._began = 0.0
        self._why: str | None = None
        self._slot: Slot | None = None
        self._channel: Channel | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._log_left = limits["log_size"]
        self._log_cut = False
        self._gathered = bytearray()
        self._flush_handle: asyncio.TimerHandle | None = None
        self._result = bytearray()
        self._word: dict[str, Any] | None = None

    async def run(self, slot: Slot) -> bool:
        """Begin in a slot and wait for the end; False when it could not begin there."""
        self._channel = slot.begin(self._order, self._end)
        if self._channel is None:
            return False
        self._slot = slot
        self._over = self._loop.create_future()
        self._began = time.monotonic()
        self._loop.add_reader(self._channel.log, self._read_log)
        self._loop.add_reader(self._channel.result, self._read_result)
        self._timer = self._loop.call_later(self._timeout, self.stop, "timeout")
        if self._why is not None:
            slot.kill()
        return await asyncio.shield(self._over)

    def stop(self, why: str) -> None:
        """End the run with everything that it started."""
        if self._why is None and not self._ended.done():
            self._why = why
            if self._slot is not None:
                self._slot.kill()

    async def ended(self) -> None:
        """Wait until the run and all its processes are gone."""
        await asyncio.shield(self._ended)

    def outcome(self) -> dict[str, Any]:
        """Return the result of the run that has ended, without its log."""
        answer = None
        if self._word is not None and self._word.get("status") == 0:
            # Whoever was killed or crashed has not returned, whatever is in the pipe.
            answer = outcome.parse(bytes(self._result))
        return {**(answer or self._judge()), "log_truncated": self._log_cut}

    def fail(self, text: str) -> None:
        """End a run that could not begin."""
        self._word = {"error": text}
        self._ended.set_result(None)

    def _end(self, word: dict[str, Any] | None) -> None:
        """All processes of the run are gone, or (no word) nobody looks after them."""
        assert self._channel is not None and self._timer is not None and self._over is not None
        self._timer.cancel()
        self._word = word
        self._slot = None
        begun = word is not None or not self._channel.withdraw()
        for number, read in ((self._channel.log, self._read_log),
                             (self._channel.result, self._read_result)):
            for _ in range(_LAST_READS):
                if not read():
                    break
            self._loop.remove_reader(number)
        self._channel.close()
        over = begun or self._why is not None
        self._over.set_result(over)
        if not over:
            return
        self._flush()
        if self._log_cut:
            self._on_log(b"\n[The log was cut here: its limit is %d bytes.]\n"
                         % self._limits["log_size"])
        self._ended.set_result(None)

    def _read_log(self) -> bool:
        assert self._channel is not None
        data = self._read(self._channel.log)
        kept = data[: self._log_left]
        self._log_left -= len(kept)
        self._log_cut |= len(kept) < len(data)
        self._gathered += kept
        if kept and self._flush_handle is None:
            self._flush_handle = self._loop.call_later(_GATHER_SECONDS, self._flush)
        return bool(data)

    def _flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if self._gathered:
            self._on_log(bytes(self._gathered))
            self._gathered.clear()

    def _read_result(self) -> bool:
        assert self._channel is not None
        data = self._read(self._channel.result)
        # What is too long to be a report is thrown away, but read: its writer shall not hang.
        if len(self._result) <= self._limits["result_size"] + 2 * outcome.ENVELOPE:
            self._result += data
        return bool(data)

    def _read(self, number: int) -> bytes:
        """Return what a pipe has right now, perhaps nothing; look no more after its end."""
        try:
            data = os.read(number, _READ)
        except BlockingIOError:
            return b""
        if not data:
            self._loop.remove_reader(number)
        return data

    def _judge(self) -> dict[str, Any]:
        """Say how a run ended that reported nothing, or no whole report."""
        elapsed = round(time.monotonic() - self._began, 3) if self._began else 0.0
        reason, text = self._cause()
        return {"output": text, "duration": elapsed, "success": False, "reason": reason}

    def _cause(self) -> tuple[str, str]:
        if self._why == "timeout":
            return "timeout", TIMEOUT
        if self._why is not None:
            return "cancelled", "The run was cancelled."
        if self._word is None:
            return "signal", "The process that looks after the run was killed."
        if "error" in self._word:
            return "error", str(self._word["error"])
        status = self._word["status"]
        if status is None:
            return "error", "The worker could not start a process for the run."
        if os.WIFSIGNALED(status):
            return _killed(os.WTERMSIG(status))
        code = os.WEXITSTATUS(status)
        if code == outcome.UNPREPARED:
            return "error", "The worker could not prepare the surroundings of the run."
        if code == outcome.CLOSED:
            return "exit", "The function closed the channel on which its result is reported."
        if self._result:
            return "exit", ("The function wrote to the channel on which its result is reported,"
                            " which is not its own.")
        return "exit", f"The function ended its process with status {code} instead of returning."


def _killed(number: int) -> tuple[str, str]:
    if number == signal.SIGKILL:
        return "memory", outcome.RESOURCES
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    return "signal", f"The function's process was killed by signal {name}."
