# SPDX-License-Identifier: Apache-2.0
"""What looks after the runs: it is replaced when it dies, and ends with the worker."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time

import pytest

from tests.functional import processes
from tests.unit.runtime.client import package
from tests.unit.runtime.marks import marked
from tests.unit.runtime.worker import Worker


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
