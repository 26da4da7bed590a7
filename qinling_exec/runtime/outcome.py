# SPDX-License-Identifier: Apache-2.0
"""What a run reports about itself: the form of it in the result pipe, and texts for people."""

from __future__ import annotations

import json
import os
import struct
import traceback
from types import TracebackType
from typing import Any

from qinling_exec.runtime.entry import NoEntry

RESOURCES = "Function execution failed because of too much resource consumption"
#: In front of a report; what else is in the pipe was not written by this package.
_MARK = b"\x00qinling-result\x00"
_JSON = json.JSONEncoder(allow_nan=False)
_LENGTH = struct.Struct(">Q")
#: What a report may have besides the function's output.
ENVELOPE = 4096
#: Exit statuses of a run whose surroundings failed, and of one that could not report.
UNPREPARED, CLOSED = 70, 71
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


def frame(answer: dict[str, Any], most: int) -> bytes:
    """Return the bytes of a report.

    What can't be JSON, or is too large, becomes an honest failure.

    :param most: bytes that the output may have as JSON.
    """
    data = _encode(answer, most)
    return _MARK + _LENGTH.pack(len(data)) + data


def parse(data: bytes) -> dict[str, Any] | None:
    """Return the report in a result pipe's bytes, None when there is no whole one."""
    head = len(_MARK) + _LENGTH.size
    if not data.startswith(_MARK) or len(data) < head:
        return None
    (size,) = _LENGTH.unpack_from(data, len(_MARK))
    if len(data) != head + size:
        return None
    try:
        answer = json.loads(data[head:])
        duration = float(answer["duration"])
        if not 0 <= duration < float("inf"):
            return None
        return {"output": answer["output"], "duration": duration,
                "success": answer["success"] is True, "reason": answer["reason"]}
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def failure(error: BaseException) -> tuple[dict[str, Any], str]:
    """Return a failure's report, and the user's part of the traceback for the log."""
    reason, text = _describe(error)
    lines = ""
    if not isinstance(error, NoEntry):
        try:
            lines = "".join(traceback.format_exception(type(error), error,
                                                       _users(error.__traceback__)))
        except BaseException:
            lines = text + "\n"
    return {"success": False, "output": text, "reason": reason}, lines


def _describe(error: BaseException) -> tuple[str, str]:
    try:
        text = str(error)
    except BaseException:
        text = "(its text can't be had)"
    if isinstance(error, MemoryError) or (
            isinstance(error, RuntimeError) and "can't start new thread" in text):
        return "memory", RESOURCES
    if isinstance(error, OSError) and "Resource temporarily unavailable" in text:
        return "processes", RESOURCES
    if isinstance(error, SystemExit):
        return "exit", f"The function called sys.exit({text}) instead of returning."
    if isinstance(error, NoEntry):
        return "exception", text
    name = type(error).__name__
    return "exception", f"{name}: {text}" if text else name


def _users(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of this package and of importlib in front of the user's."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((_OWN, "<frozen importlib")) and "/importlib/" not in file:
            return trace
        trace = trace.tb_next
    return None


def _encode(answer: dict[str, Any], most: int) -> bytes:
    failed = {"success": False, "duration": answer["duration"]}
    try:
        data = _JSON.encode(answer).encode()
    except MemoryError:
        return json.dumps({**failed, "output": RESOURCES, "reason": "memory"}).encode()
    except BaseException as error:
        kind = type(answer["output"]).__name__
        text = f"The function returned a value ({kind}) that is not JSON: {str(error)[:200]}."
        return json.dumps({**failed, "output": text, "reason": "not-json"}).encode()
    if len(data) <= most + ENVELOPE:
        return data
    text = f"The function returned {len(data)} bytes of JSON; {most} are allowed."
    return json.dumps({**failed, "output": text, "reason": "too-large"}).encode()
