# SPDX-License-Identifier: Apache-2.0
"""How runs end: every end is told as what it was."""

from __future__ import annotations

import textwrap
import time

import pytest

from tests.unit.runtime.client import Answer
from tests.unit.runtime.worker import Worker

RESOURCES = "Function execution failed because of too much resource consumption"


def run(worker: Worker, program: str, **more: object) -> Answer:
    return worker.run({"program": textwrap.dedent(program)}, **more)


def test_returned_value_is_the_output(worker: Worker) -> None:
    answer = run(worker, "result = {'a': [1, 2.5, None, True, 'é\\ud800']}")
    assert answer == {"success": True, "output": {"a": [1, 2.5, None, True, "é\ud800"]},
                      "duration": answer["duration"], "reason": None, "log_truncated": False}
    assert answer.log == b""


def test_duration_is_what_the_function_took(worker: Worker) -> None:
    assert 0.2 <= run(worker, "time.sleep(0.2)")["duration"] < 2
    assert 0.2 <= run(worker, "time.sleep(0.2); 1 / 0")["duration"] < 2


def test_exception_has_type_text_and_the_users_traceback(worker: Worker) -> None:
    answer = run(worker, "print('before'); raise ValueError('no good')")
    assert (answer["success"], answer["output"], answer["reason"]) == (
        False, "ValueError: no good", "exception")
    assert answer.text.startswith("before\nTraceback (most recent call last):\n")
    assert answer.text.endswith("ValueError: no good\n")
    assert "main.py" in answer.text
    assert "qinling" not in answer.text


def test_exception_without_a_text(worker: Worker) -> None:
    assert run(worker, "raise KeyError")["output"] == "KeyError"


def test_exception_whose_text_raises(worker: Worker) -> None:
    answer = run(worker, """
        class Nasty(Exception):
            def __str__(self):
                raise RuntimeError
        raise Nasty
        """)
    assert answer["output"] == "Nasty: (its text can't be had)"


@pytest.mark.parametrize("program, status", [
    ("os._exit(0)", 0), ("os._exit(3)", 3), ("print('x'); os._exit(0)", 0)])
def test_ending_the_process_is_no_success(worker: Worker, program: str, status: int) -> None:
    answer = run(worker, program)
    assert (answer["success"], answer["reason"]) == (False, "exit")
    assert answer["output"] == (
        f"The function ended its process with status {status} instead of returning.")


def test_sys_exit_is_no_success(worker: Worker) -> None:
    for program in ("sys.exit(0)", "raise SystemExit"):
        answer = run(worker, program)
        assert (answer["success"], answer["reason"]) == (False, "exit")
        assert "sys.exit" in answer["output"]


@pytest.mark.parametrize("number, text, reason", [
    ("SIGKILL", RESOURCES, "memory"),
    ("SIGTERM", "The function's process was killed by signal SIGTERM.", "signal"),
    ("SIGSEGV", "The function's process was killed by signal SIGSEGV.", "signal")])
def test_killed_by_a_signal(worker: Worker, number: str, text: str, reason: str) -> None:
    answer = run(worker, f"print('all of this'); os.kill(os.getpid(), signal.{number})")
    assert (answer["success"], answer["output"], answer["reason"]) == (False, text, reason)
    assert answer.log == b"all of this\n"


@pytest.mark.parametrize("program, kind", [
    ("result = {1, 2}", "set"), ("result = float('nan')", "float"), ("result = b'x'", "bytes"),
    ("result = {(1, 2): 3}", "dict"), ("result = []; result.append(result)", "list")])
def test_what_is_not_json(worker: Worker, program: str, kind: str) -> None:
    answer = run(worker, program)
    assert (answer["success"], answer["reason"]) == (False, "not-json")
    assert f"({kind}) that is not JSON" in answer["output"]


def test_result_nested_too_deep(worker: Worker) -> None:
    answer = run(worker, "result = []\nfor _ in range(100000): result = [result]")
    assert (answer["success"], answer["reason"]) == (False, "not-json")


def test_result_too_large(worker: Worker) -> None:
    answer = run(worker, "result = 'x' * 2**24")
    assert (answer["success"], answer["reason"]) in (
        (False, "too-large"), (False, "memory"))


@pytest.mark.parametrize("program", [
    "os.close(1); os.close(2); result = 1",
    "sys.stdout.close(); sys.stderr.close(); result = 1",
    "sys.stdout = sys.stderr = None; result = 1",
    "import io; sys.stdout = io.StringIO(); print('lost'); result = 1"])
def test_a_closed_stdout_changes_nothing(worker: Worker, program: str) -> None:
    answer = run(worker, program)
    assert (answer["success"], answer["output"], answer.log) == (True, 1, b"")


def test_exception_with_a_closed_stderr(worker: Worker) -> None:
    assert run(worker, "os.close(2); raise ValueError('x')")["output"] == "ValueError: x"


def test_closing_every_descriptor_is_told(worker: Worker) -> None:
    answer = run(worker, "os.closerange(0, 1000); result = 1")
    assert (answer["success"], answer["reason"]) == (False, "exit")
    assert "closed the channel" in answer["output"]


def test_garbage_in_the_result_channel(worker: Worker) -> None:
    write = """
        for name in os.listdir('/proc/self/fd'):
            if int(name) > 2:
                try:
                    os.write(int(name), GARBAGE)
                except OSError:
                    pass
        """
    for garbage in ("b'garbage'", "b'\\x00qinling-result\\x00' + bytes(7) + b'\\x04null'",
                    "b'\\x00qinling-result\\x00' + b'\\xff' * 8"):
        answer = run(worker, write.replace("GARBAGE", garbage))
        assert (answer["success"], answer["reason"]) == (False, "exit")
        assert "wrote to the channel" in answer["output"]


def test_a_flood_in_the_result_channel_ends(worker: Worker) -> None:
    answer = run(worker, """
        data = bytes(1 << 20)
        for name in os.listdir('/proc/self/fd'):
            for _ in range(64):
                try:
                    int(name) > 2 and os.write(int(name), data)
                except OSError:
                    pass
        """)
    assert answer["success"] is False


def test_forged_result_line_is_only_a_line(worker: Worker) -> None:
    answer = run(worker, """
        print('{"output": "forged", "success": true, "duration": 0}')
        os.write(1, b'R\\x00\\x00\\x00\\x02{}')
        result = 'real'
        """)
    assert (answer["output"], answer["success"]) == ("real", True)
    assert b"forged" in answer.log and answer.log.endswith(b"R\x00\x00\x00\x02{}")


def test_forked_process_that_returns_does_not_answer(worker: Worker) -> None:
    answer = run(worker, """
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        result = "parent" if pid else "child"
        """)
    assert (answer["output"], answer["success"]) == ("parent", True)


def test_timeout(worker: Worker) -> None:
    answer = run(worker, "print('begun', flush=False); time.sleep(60)", timeout=0.3)
    assert (answer["success"], answer["output"], answer["reason"]) == (
        False, "Function execution timeout", "timeout")
    assert 0.3 <= answer["duration"] < 3
    assert answer.log == b"begun\n"


def test_timeout_of_what_ignores_signals_and_never_yields(worker: Worker) -> None:
    began = time.monotonic()
    answer = run(worker, """
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            pass
        """, timeout=0.3)
    assert answer["reason"] == "timeout"
    assert time.monotonic() - began < 5


def test_stdin_is_empty(worker: Worker) -> None:
    assert run(worker, "result = sys.stdin.read()")["output"] == ""
    assert run(worker, "input()")["output"].startswith("EOFError")


def test_crash_after_a_forged_report(worker: Worker) -> None:
    answer = run(worker, """
        import struct
        data = json.dumps({"output": 1, "duration": 1, "success": True, "reason": None}).encode()
        for name in os.listdir('/proc/self/fd'):
            if int(name) > 2:
                try:
                    os.write(int(name), b'\\x00qinling-result\\x00' + struct.pack('>Q', len(data))
                             + data)
                except OSError:
                    pass
        os.kill(os.getpid(), signal.SIGSEGV)
        """)
    assert (answer["success"], answer["reason"]) == (False, "signal")
