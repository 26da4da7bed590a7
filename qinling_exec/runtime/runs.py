# SPDX-License-Identifier: Apache-2.0
"""The server's side of one run: its pipes, its time, its outcome."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from typing import Any, Callable, Dict, Optional

from qinling_exec.runtime import child

TIMEOUT = "Function execution timeout"
_READ = 65536
_GATHER_SECONDS = 0.02
_WITHOUT_RETURN = "The function ended its process (exit status %d) without returning."


class Run:
    """One run, from the order to the zygote until its result.

    :param request: the body of /execute.
    :param limits: ``log_size`` and ``result_size``, in bytes.
    :param on_log: takes what the run prints.
    """

    def __init__(self, request: Dict[str, Any], limits: Dict[str, int],
                 on_log: Callable[[bytes], None]) -> None:
        self.id = str(request["execution_id"])
        self.supervisor: Optional[int] = None
        self._request = request
        self._limits = limits
        self._on_log = on_log
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._why: Optional[str] = None
        self._log_left = limits["log_size"]
        self._log_cut = False
        self._gathered = bytearray()
        self._flush_handle: Optional[asyncio.TimerHandle] = None
        self._result = bytearray()
        self._status: Optional[Dict[str, Any]] = None
        self._open = 0
        self._ended = self._loop.create_future()
        self._control: Optional[socket.socket] = None

    def start(self, zygote: socket.socket) -> None:
        """Order the run.

        :raises OSError: the zygote is gone.
        """
        log, log_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        result, result_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        control, control_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        memory = os.memfd_create("request")
        ends = [memory, log_end, result_end, control_end.fileno()]
        try:
            for end in (log_end, result_end):
                os.set_blocking(end, True)
            with open(memory, "wb", closefd=False) as file:
                file.write(json.dumps(self._request).encode())
            socket.send_fds(zygote, [b"{}"], ends)
        except BaseException:
            os.close(log)
            os.close(result)
            control.close()
            raise
        finally:
            for end in ends[:3]:
                os.close(end)
            control_end.close()
        control.setblocking(False)
        self._control = control
        self._watch(log, self._read_log)
        self._watch(result, self._read_result)
        self._open += 1
        self._loop.add_reader(control, self._read_control)
        timeout = float(self._request.get("timeout") or 5)
        self._timer = self._loop.call_later(timeout, self.stop, "timeout")

    def stop(self, why: str) -> None:
        """End the run with everything that it started."""
        if self._why is None and self._control is not None:
            self._why = why
            with contextlib.suppress(OSError):
                self._control.send(b"K")

    async def outcome(self) -> Dict[str, Any]:
        """Wait for the end of the run and of all its processes; return its result."""
        await asyncio.shield(self._ended)
        answer = self._judge()
        if self._log_cut:
            self._on_log(b"\n[The log was cut here: %d bytes are kept.]\n"
                         % self._limits["log_size"])
        return {**answer, "log_truncated": self._log_cut}

    def _watch(self, descriptor: int, read: Callable[[int], bool]) -> None:
        self._open += 1

        def on_readable() -> None:
            if not read(descriptor):
                self._loop.remove_reader(descriptor)
                os.close(descriptor)
                self._closed()

        self._loop.add_reader(descriptor, on_readable)

    def _closed(self) -> None:
        self._open -= 1
        if self._open == 0 and not self._ended.done():
            self._timer.cancel()
            self._flush()
            self._ended.set_result(None)

    def _read_log(self, descriptor: int) -> bool:
        data = _read(descriptor)
        if data is None:
            return True
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

    def _read_result(self, descriptor: int) -> bool:
        data = _read(descriptor)
        if data is None:
            return True
        if len(self._result) <= self._limits["result_size"] + _READ:
            self._result += data
        return bool(data)

    def _read_control(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if message.isdigit():
            self.supervisor = int(message)
        else:
            if message:
                self._status = json.loads(message)
            self._loop.remove_reader(self._control)
            self._control.close()
            self._closed()

    def _judge(self) -> Dict[str, Any]:
        elapsed = round(time.monotonic() - self._began, 3)
        answer = self._returned()
        if answer is not None:
            return answer
        failed: Dict[str, Any] = {"success": False, "duration": elapsed}
        if self._why == "timeout":
            return {**failed, "output": TIMEOUT, "reason": "timeout"}
        if self._why is not None:
            return {**failed, "output": "The run was cancelled.", "reason": "cancelled"}
        if self._status is None:
            return {**failed, "reason": "signal", "output":
                    "The process that looks after the run was killed from inside the run."}
        status = self._status["status"]
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGKILL:
                return {**failed, "output": child.RESOURCES, "reason": "memory"}
            name = signal.Signals(number).name if number in list(signal.Signals) else str(number)
            return {**failed, "reason": "signal",
                    "output": "The function's process was killed by signal %s." % name}
        code = os.WEXITSTATUS(status)
        if self._result:
            return {**failed, "reason": "exit", "output":
                    "The function wrote to the channel of its result, which is the service's own."}
        return {**failed, "output": _WITHOUT_RETURN % code, "reason": "exit"}

    def _returned(self) -> Optional[Dict[str, Any]]:
        """Return what the run reported, None when it did not come to that."""
        data = bytes(self._result)
        head = len(child.MARK) + child.LENGTH.size
        if not data.startswith(child.MARK) or len(data) < head:
            return None
        (size,) = child.LENGTH.unpack_from(data, len(child.MARK))
        if len(data) != head + size:
            return None
        try:
            answer = json.loads(data[head:])
            return {"output": answer["output"], "duration": float(answer["duration"]),
                    "success": answer["success"] is True, "reason": answer["reason"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


def _read(descriptor: int) -> Optional[bytes]:
    """Return bytes of a pipe, empty at its end, None when there are none right now."""
    try:
        return os.read(descriptor, _READ)
    except BlockingIOError:
        return None
    except OSError:
        return b""
