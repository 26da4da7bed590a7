# SPDX-License-Identifier: Apache-2.0
"""The process of one run: calls the function and reports what it returned."""

import contextlib
import fcntl
import importlib
import inspect
import io
import json
import os
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
from typing import Any, Callable, Dict, Optional, Tuple

RESOURCES = "Function execution failed because of too much resource consumption"
#: In front of a result; what else is in the pipe was not written here.
MARK = b"\x00qinling-result\x00"
LENGTH = struct.Struct(">Q")
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


def settle(directory: str) -> None:
    """Arrange environment, working directory, signals and streams; before the order comes."""
    os.environ.clear()
    os.environ.update({"HOME": directory, "TMPDIR": directory, "LANG": "C.UTF-8",
                       "PATH": "/usr/local/bin:/usr/bin:/bin"})
    os.chdir(directory)
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = None  # chosen again, in this run's own directory
    threading.stack_size(1 << 20)  # address space is what a run's memory is measured in


def connect(log: int, result: int) -> int:
    """Put the run's descriptors in their places and close all others; return the result's."""
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target, inheritable=True)
    output = fcntl.fcntl(result, fcntl.F_DUPFD_CLOEXEC, 100)
    os.closerange(3, output)
    os.closerange(output + 1, 1024)
    for name, number in (("stdout", 1), ("stderr", 2)):
        # Unbuffered: what was printed before a kill is kept.
        raw = io.FileIO(number, "w", closefd=False)
        stream = io.TextIOWrapper(io.BufferedWriter(raw, 1 << 16), "utf-8", "backslashreplace",
                                  line_buffering=False, write_through=True)
        setattr(sys, name, _Unbuffered(stream))
        setattr(sys, "__%s__" % name, getattr(sys, name))
    sys.stdin = sys.__stdin__ = open(0, closefd=False)
    return output


class _Unbuffered(io.TextIOWrapper):
    """A text stream whose every write reaches the descriptor."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.detach(), "utf-8", "backslashreplace", write_through=True)

    def write(self, text: str) -> int:
        written = super().write(text)
        self.flush()
        return written


def run(request: Dict[str, Any], entry: str, output: int, most: int,
        confine: Callable[[], None]) -> None:
    """Call the function and write its result; never returns.

    :param output: descriptor of the result pipe.
    :param most: bytes that the result may have.
    :param confine: sets the limits of this process.
    """
    me = os.getpid()
    answer: Dict[str, Any] = {}
    began = time.monotonic()
    try:
        confine()
        began = time.monotonic()
        value = _call(request, entry)
        answer = {"success": True, "output": value, "reason": None}
    except BaseException as error:
        answer = _failure(error)
    duration = round(time.monotonic() - began, 3)
    if os.getpid() != me:
        os._exit(0)  # a process that the function forked and let return
    data = _encode({**answer, "duration": duration}, most)
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        view = memoryview(MARK + LENGTH.pack(len(data)) + data)
        while view:
            view = view[os.write(output, view):]
    os._exit(0)


def _call(request: Dict[str, Any], entry: str) -> Any:
    module_name, _, name = entry.rpartition(".")
    module = importlib.import_module(module_name)
    function = getattr(module, name, None)
    if not callable(function):
        raise _NoEntry("entry %s: module %r has no function %r" % (entry, module_name, name))
    given = request.get("input")
    keywords = dict(given) if isinstance(given, dict) else {}
    positional = () if given is None or isinstance(given, dict) else (given,)
    if _takes_context(function):
        names = ("execution_id", "attempt", "function_id", "function_version", "request_id")
        keywords["context"] = {"os_session": None, **{key: request.get(key) for key in names}}
    return function(*positional, **keywords)


class _NoEntry(Exception):
    """The package has not what its entry names."""


def _takes_context(function: Any) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return False
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return True
    parameter = parameters.get("context")
    return parameter is not None and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY


def _failure(error: BaseException) -> Dict[str, Any]:
    """Say what went wrong, and print the user's part of the traceback to the log."""
    reason, text = _describe(error)
    with contextlib.suppress(BaseException):
        lines = traceback.format_exception(type(error), error, _users(error.__traceback__))
        if not isinstance(error, _NoEntry):
            sys.stderr.write("".join(lines))
            sys.stderr.flush()
    return {"success": False, "output": text, "reason": reason}


def _describe(error: BaseException) -> Tuple[str, str]:
    try:
        text = str(error)
    except BaseException:
        text = "(its text can't be had)"
    if isinstance(error, MemoryError) or "can't start new thread" in text:
        return "memory", RESOURCES
    if isinstance(error, OSError) and "Resource temporarily unavailable" in text:
        return "processes", RESOURCES
    if isinstance(error, SystemExit):
        return "exit", "The function called sys.exit(%s) instead of returning." % (text or "")
    if isinstance(error, _NoEntry):
        return "exception", text
    name = type(error).__name__
    return "exception", "%s: %s" % (name, text) if text else name


def _users(trace: Optional[Any]) -> Optional[Any]:
    """Leave out the frames of this package and of importlib in front of the user's."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_OWN) and "importlib" not in file:
            return trace
        trace = trace.tb_next
    return None


def _encode(answer: Dict[str, Any], most: int) -> bytes:
    """Return an answer as JSON; what is none is an honest failure."""
    failed = {"success": False, "duration": answer["duration"]}
    try:
        data = json.dumps(answer, allow_nan=False).encode()
    except MemoryError:
        return json.dumps({**failed, "output": RESOURCES, "reason": "memory"}).encode()
    except BaseException as error:
        text = "The function returned what is not JSON: %s" % str(error)[:200]
        return json.dumps({**failed, "output": text, "reason": "not-json"}).encode()
    if len(data) <= most:
        return data
    text = "The function returned %d bytes of JSON; %d are allowed." % (len(data), most)
    return json.dumps({**failed, "output": text, "reason": "too-large"}).encode()
