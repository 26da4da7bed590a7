# SPDX-License-Identifier: Apache-2.0
"""Everything that a run started ends with it, however it hides."""

from __future__ import annotations

import http.client
import os
import pathlib
import signal
import subprocess
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.functional import processes
from tests.unit.runtime.client import package
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


def marked(mark: str) -> list[int]:
    """Processes with a mark in their command line."""
    found = []
    for path in pathlib.Path("/proc").iterdir():
        if path.name.isdigit() and mark in processes.command(int(path.name)):
            found.append(int(path.name))
    return found


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


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


def zygote(worker: Worker) -> int:
    """The process that forks the keepers: the worker's first child."""
    return min(processes.descendants(worker.process.pid), key=lambda key: key[1])[0]


def test_dead_zygote_is_replaced_and_runs_go_on(either: Worker) -> None:
    thread, other = either.background({"program": "time.sleep(0.8); result = 'lives'"})
    time.sleep(0.2)
    os.kill(zygote(either), signal.SIGKILL)
    runs = [either.background({"program": "result = 1"}) for _ in range(2)]
    for run, _ in runs:
        run.join()
    thread.join()
    assert other["output"] == "lives"
    assert [answer["output"] for _, answer in runs] == [1, 1]


def test_dead_keepers_are_replaced(either: Worker) -> None:
    for pid, _ in processes.descendants(either.process.pid):
        processes.kill([key for key in processes.descendants(either.process.pid)
                        if key[0] == pid])
    answers = [either.run({"program": "result = 1"}) for _ in range(3)]
    assert [answer["output"] for answer in answers][1:] == [1, 1]


def test_worker_that_is_killed_leaves_nothing(mark: str) -> None:
    worker = Worker()
    try:
        worker.specialize("import subprocess, sys, time\ndef main(mark):\n    subprocess.Popen("
                          "[sys.executable, '-c', 'import time; time.sleep(60)', mark],"
                          " start_new_session=True)\n    time.sleep(60)")
        connection = worker.begin({"mark": mark}, timeout=30)
        assert processes.wait_for(lambda: len(marked(mark)) == 1, 5)
        below = list(processes.descendants(worker.process.pid))
        worker.process.kill()
        assert processes.wait_for(lambda: not marked(mark) and not processes.alive(below), 5)
        connection.close()
    finally:
        worker.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_the_package_started_on_import_ends_with_the_worker(mark: str, number: int) -> None:
    worker = Worker()
    try:
        worker.specialize(f"""
            import subprocess, sys
            subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}],
                             start_new_session=True)
            def main(): return 1
            """)
        assert [worker.run()["output"] for _ in range(3)] == [1, 1, 1]
        assert len(marked(mark)) == 1
        worker.process.send_signal(number)
        assert processes.wait_for(lambda: not marked(mark), 5)
    finally:
        worker.stop()


@pytest.mark.parametrize("pause", [0, 0.03, 0.3])
def test_package_that_hangs_on_import_ends_with_the_worker(mark: str, pause: float) -> None:
    """Also when the worker is gone before what loads the package has asked to end with it."""
    worker = Worker()
    try:
        data = package("import time\ntime.sleep(60)\ndef main(): pass")

        def offer() -> None:
            with pytest.raises((OSError, http.client.HTTPException)):
                worker.offer(data)

        thread = threading.Thread(target=offer)
        thread.start()
        assert processes.wait_for(lambda: (worker.directory / "scratch" / "code").exists(), 5)
        below = list(processes.descendants(worker.process.pid))
        time.sleep(pause)
        worker.process.kill()
        assert processes.wait_for(lambda: not processes.alive(below), 5)
        thread.join()
    finally:
        worker.stop()


def test_worker_ends_with_its_parent(mark: str) -> None:
    theirs, ours = os.pipe()
    worker = Worker(parent_fd=theirs)
    os.close(theirs)
    try:
        worker.specialize("def main(): pass")
        below = list(processes.descendants(worker.process.pid))
        os.close(ours)
        assert worker.process.wait(5) == 0
        assert processes.wait_for(lambda: not processes.alive(below), 5)
        assert not os.path.exists(worker.path)
        assert not (worker.directory / "scratch").exists()
    finally:
        worker.stop()


def test_sigterm_lets_runs_end(mark: str) -> None:
    worker = Worker()
    try:
        worker.specialize("import time\ndef main():\n    time.sleep(0.7)\n    return 'whole'")
        thread, answer = worker.background()
        assert processes.wait_for(lambda: worker.ping()["running"] == 1, 5)
        below = list(processes.descendants(worker.process.pid))
        worker.process.terminate()
        assert worker.process.wait(10) == 0
        thread.join()
        assert answer["output"] == "whole"
        assert processes.wait_for(lambda: not processes.alive(below), 5)
        assert not os.path.exists(worker.path)
    finally:
        worker.stop()
