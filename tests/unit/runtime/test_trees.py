# SPDX-License-Identifier: Apache-2.0
"""Everything that a run started ends with it, however it hides."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator

import pytest

from tests.functional import processes
from tests.unit.runtime.marks import marked
from tests.unit.runtime.worker import Worker

RESOURCES = "Function execution failed because of too much resource consumption"
#: Ways to start a process that lives for long; each has MARK in its command line.
SLEEPER = "[sys.executable, '-c', 'import time; time.sleep(60)', MARK]"
HIDING = {
    "child": f"subprocess.Popen({SLEEPER})",
    "own session": f"subprocess.Popen({SLEEPER}, start_new_session=True)",
    "ignores signals": """
        subprocess.Popen([sys.executable, '-c', '''if 1:
            import signal, time
            for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)
            time.sleep(60)''', MARK], start_new_session=True)
        time.sleep(0.2)
        """,
    "daemon": f"""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv(sys.executable, {SLEEPER})
            os._exit(0)
        os.wait()
        """,
    "daemon that is an orphan's orphan": f"""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.execv(sys.executable, {SLEEPER})
                os._exit(0)
            os._exit(0)
        time.sleep(0.2)
        """,
    "thread": "threading.Thread(target=time.sleep, args=(60,)).start()",
}


def program(text: str, mark: str) -> str:
    return f"MARK = {mark!r}\n" + textwrap.dedent(text)


@pytest.mark.parametrize("way", HIDING)
def test_nothing_is_left_when_the_function_returns(either: Worker, mark: str, way: str) -> None:
    answer = either.run({"program": program(HIDING[way], mark) + "\nresult = 'done'"})
    assert (answer["success"], answer["output"]) == (True, "done")
    assert marked(mark) == []


@pytest.mark.parametrize("way", HIDING)
def test_nothing_is_left_after_a_timeout(either: Worker, mark: str, way: str) -> None:
    text = program(HIDING[way], mark) + "\nprint('there')\ntime.sleep(60)"
    answer = either.run({"program": text}, timeout=0.7)
    assert (answer["reason"], answer.log) == ("timeout", b"there\n")
    assert marked(mark) == []


def test_processes_that_fork_for_ever_are_ended(either: Worker) -> None:
    answer = either.run({"program": textwrap.dedent("""
        def chain():
            while True:
                time.sleep(0.002)
                if os.fork():
                    os._exit(0)
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                chain()
        time.sleep(60)
        """)}, timeout=0.5)
    assert answer["reason"] == "timeout"
    assert either.run({"program": "result = 1"})["output"] == 1
    time.sleep(0.05)
    assert len(processes.descendants(either.process.pid)) < 12


@pytest.fixture
def crowd() -> Iterator[None]:
    """So many processes on the machine that to look through them takes long."""
    shell = subprocess.Popen(
        ["sh", "-c", "for _ in $(seq 700); do sleep 120 & done; echo; wait"],
        start_new_session=True, stdout=subprocess.PIPE)
    assert shell.stdout is not None and shell.stdout.readline()
    yield
    os.killpg(shell.pid, signal.SIGKILL)
    shell.communicate()


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("leaves", ["nothing", "its session"])
def test_fork_for_ever_in_a_crowd_does_not_hold_up_other_runs(confined: Worker, leaves: str
                                                              ) -> None:
    """Found when a whole suite ran: the zygote chased the chain, and forked no keeper."""
    step = "os.setsid()" if leaves == "its session" else "pass"
    answer = confined.run({"program": textwrap.dedent(f"""
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                while True:
                    time.sleep(0.001)
                    if os.fork():
                        os._exit(0)
                    {step}
        time.sleep(60)
        """)}, timeout=0.3)
    assert answer["reason"] == "timeout"
    others = [confined.background({"program": "time.sleep(0.3); result = 1"}, timeout=20)
              for _ in range(3)]
    for thread, other in others:
        thread.join(15)
        assert other.get("output") == 1
    assert len(processes.descendants(confined.process.pid)) < 12


def test_cancel_returns_when_the_tree_is_gone(either: Worker, mark: str) -> None:
    text = program(HIDING["ignores signals"], mark) + "\nprint('there')\ntime.sleep(60)"
    thread, answer = either.background({"program": text}, execution_id="x", timeout=30)
    assert processes.wait_for(lambda: len(marked(mark)) == 1, 5)
    began = time.monotonic()
    assert either.call("POST", "/cancel/x") == (200, {"status": "cancelled"})
    assert marked(mark) == []
    assert time.monotonic() - began < 5
    thread.join()
    assert (answer["success"], answer["reason"], answer["output"]) == (
        False, "cancelled", "The run was cancelled.")
    assert either.call("POST", "/cancel/x")[0] == 404


def test_client_that_goes_away_ends_the_run(either: Worker, mark: str) -> None:
    text = program(HIDING["child"], mark) + "\ntime.sleep(60)"
    connection = either.begin({"program": text}, timeout=30)
    assert processes.wait_for(lambda: len(marked(mark)) == 1, 5)
    connection.close()
    assert processes.wait_for(lambda: either.ping()["running"] == 0, 5)
    assert marked(mark) == []


def test_run_can_not_kill_what_looks_after_it(worker: Worker) -> None:
    thread, other = worker.background({"program": "time.sleep(0.8); result = 'lives'"})
    time.sleep(0.1)
    answer = worker.run({"program": textwrap.dedent("""
        for pid in (os.getppid(), 1, -1):
            for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
        result = 'alive'
        """)})
    assert (answer["success"], answer["output"]) == (True, "alive")
    thread.join()
    assert other["output"] == "lives"


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_run_that_kills_its_keeper(confined: Worker, mark: str, number: str) -> None:
    thread, other = confined.background({"program": "time.sleep(0.8); result = 'lives'"})
    time.sleep(0.1)
    answer = confined.run({"program": program(HIDING["own session"], mark) + textwrap.dedent(f"""
        print('before', flush=True)
        os.kill(os.getppid(), signal.{number})
        time.sleep(60)
        """)}, timeout=30)
    assert (answer["success"], answer["reason"]) == (False, "signal")
    assert answer["output"] == "The process that looks after the run was killed."
    assert answer.log == b"before\n"
    assert processes.wait_for(lambda: not marked(mark), 5), "orphans live"
    thread.join()
    assert other["output"] == "lives"
    assert confined.run({"program": "result = 1"})["output"] == 1


def test_run_that_stops_its_keeper(confined: Worker, mark: str) -> None:
    answer = confined.run({"program": program(HIDING["own session"], mark) + textwrap.dedent("""
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(60)
        """)}, timeout=0.3)
    assert answer["reason"] == "timeout"
    assert processes.wait_for(lambda: not marked(mark), 5), "orphans live"
    assert confined.run({"program": "result = 1"})["output"] == 1


def test_run_that_changes_the_limits_of_its_keeper(either: Worker) -> None:
    for _ in range(3):
        either.run({"program": textwrap.dedent("""
            import resource
            resource.prlimit(os.getppid(), resource.RLIMIT_NPROC, (0, 0))
            resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))
            """)})
    for _ in range(3):
        assert either.run({"program": "result = 1"})["output"] == 1
