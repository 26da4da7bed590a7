# SPDX-License-Identifier: Apache-2.0
"""Engines and API processes are killed, stopped and ended while others go on."""

from __future__ import annotations

import os
import re
import signal
import statistics
import threading
import time
from datetime import datetime

import pytest

from tests.functional import processes
from tests.functional.deployment import Process
from tests.reliability import invariants
from tests.reliability.conftest import REAPED, Site
from tests.reliability.history import Creation, History
from tests.reliability.invariants import Promise
from tests.reliability.ledger import Ledger

pytestmark = pytest.mark.every_database
#: Until something happens that is sure to come, on a machine with ten times the work it has cores.
_PATIENCE = 120
#: What cotyledon says about the process that works.
_DEATH = re.compile(r"Child \d+ (killed by|exited)")
_IN_CI = pytest.mark.in_ci("postgresql", "mariadb")


def _statuses(history: History) -> list[str]:
    return sorted({row["status"] for row in history.listed() or []})


def _await_death(process: Process) -> None:
    """Wait until an armed process has ended, and end its master, which starts armed ones."""
    died = processes.wait_for(lambda: _DEATH.search(process.log), _PATIENCE)
    process.kill()
    assert died, f"{process.name} lived\n{process.log}"


@pytest.mark.parametrize("point", ["claimed", "worker-taken", "posted",
                                   pytest.param("answered", marks=_IN_CI)])
def test_killed_at(site: Site, ledger: Ledger, point: str) -> None:
    """An engine dies at a named point: what it had ends with a reason, or is begun again."""
    once, again = site.function(), site.function(max_attempts="3")
    history = site.client()
    doomed = site.deployment.start_engine(f"{point}=kill:2")
    for function in (once, again) * 3:
        history.create(function, {"ledger": ledger.port, "seconds": 0.5, "lines": 5})
    _await_death(doomed)
    died = time.monotonic()
    site.deployment.start_engine()
    history.settle(_PATIENCE)
    print(f"{point}: settled {time.monotonic() - died:.1f} s after the kill")
    for row in history.listed(function_id=again) or []:
        assert row["status"] == "success", row
    for row in history.listed(function_id=once) or []:
        assert row["status"] in ("success", "error"), row
    invariants.check([history], ledger, {again: Promise(max_attempts=3)})


def test_killed_with_many_runs(site: Site, ledger: Ledger) -> None:
    """One of three engines dies with its runs: two reapers, and each run once more at the most."""
    once, again = site.function(), site.function(max_attempts="2")
    history = site.client()
    engines = [site.deployment.start_engine() for _ in range(3)]
    for function in (once, again) * 15:
        history.create(function, {"ledger": ledger.port, "seconds": 4, "lines": 20})
    ledger.wait_for_starts(12, _PATIENCE)
    died = time.monotonic()
    engines[0].kill()
    history.settle(_PATIENCE)
    print(f"settled {time.monotonic() - died:.1f} s after the kill")
    assert {row["status"] for row in history.listed(function_id=again) or []} == {"success"}
    invariants.check([history], ledger, {again: Promise(max_attempts=2)})


@_IN_CI
def test_orphans_are_noticed_in_time(site: Site, ledger: Ledger) -> None:
    """From the kill to the record of the end: lease + 2 s."""
    function = site.function()
    history = site.client()
    doomed = site.deployment.start_engine()
    made = history.create(function, {"ledger": ledger.port, "seconds": 50})
    ledger.wait_for_starts(1, _PATIENCE)
    site.deployment.start_engine()
    died = time.time()
    doomed.kill()
    history.settle(_PATIENCE)
    row = history.show(made)
    assert row is not None and row["status"] == "error"
    finished = datetime.strptime(row["finished_at"], "%Y-%m-%dT%H:%M:%S.%f%z")
    seconds = finished.timestamp() - died
    print(f"ended {seconds:.2f} s after the kill")
    # The rest is for the engine of a busy machine.
    assert seconds < REAPED + 3
    invariants.check([history], ledger)


@_IN_CI
def test_killed_while_its_runs_print(site: Site, ledger: Ledger) -> None:
    """Kill -9: all is kept that was printed until 250 ms before."""
    function = site.function()
    history = site.client()
    last = []
    for number in range(1, 4):
        doomed = site.deployment.start_engine()
        made = history.create(function, {"ledger": ledger.port, "seconds": 50, "lines": 5000,
                                         "timed": True})
        ledger.wait_for_starts(number, _PATIENCE)
        time.sleep(1)
        doomed.kill()
        last.append((made, time.time()))  # it was dead a moment before
    site.deployment.start_engine()
    history.settle(_PATIENCE)
    lost = [killed - _last_line(history.log(made)) for made, killed in last]
    print(f"printed and not kept: the last {[round(seconds, 3) for seconds in lost]} s")
    # On a machine that has nothing to spare for the service one of them may be late.
    assert statistics.median(lost) < 0.25
    assert max(lost) < 2
    invariants.check([history], ledger)


def _last_line(log: bytes | None) -> float:
    """Return when the last line was printed that is there as a whole."""
    times = re.findall(rb"(\d+\.\d{3})\n", log or b"")
    assert times, f"no line is kept: {log!r}"
    return float(times[-1])


@pytest.mark.in_ci("postgresql")
def test_ended_cleanly(site: Site, ledger: Ledger) -> None:
    """SIGTERM: runs end, what waits goes to another engine, nothing fails or runs twice."""
    function = site.function()
    history = site.client()
    leaving = site.deployment.start_engine()
    for _ in range(20):
        history.create(function, {"ledger": ledger.port, "seconds": 1.5, "lines": 3})
    ledger.wait_for_starts(3, _PATIENCE)
    site.deployment.start_engine()
    assert leaving.stop() == 0
    history.settle(_PATIENCE)
    assert _statuses(history) == ["success"]
    assert {row["attempts"] for row in history.listed() or []} == {1}
    invariants.check([history], ledger)


@pytest.mark.parametrize("attempts", [
    1, pytest.param(2, marks=pytest.mark.in_ci("postgresql"))])
def test_paused_past_its_lease(site: Site, ledger: Ledger, attempts: int) -> None:
    """SIGSTOP for longer than the lease, SIGCONT: the late write is refused."""
    function = site.function(max_attempts=str(attempts))
    history = site.client()
    paused = site.deployment.start_engine()
    working = paused.pid
    # Ends while its engine is paused, so that the outcome waits for the engine to come back.
    history.create(function, {"ledger": ledger.port, "seconds": 4, "lines": 10})
    ledger.wait_for_starts(1, _PATIENCE)
    os.kill(working, signal.SIGSTOP)
    assert _statuses(history) == ["running"]
    site.deployment.start_engine()

    def was_taken_over() -> bool:
        return (len(ledger.entries()) == 2 if attempts == 2 else
                _statuses(history) == ["error"])

    assert processes.wait_for(was_taken_over, _PATIENCE)
    os.kill(working, signal.SIGCONT)
    history.settle(_PATIENCE)
    assert _statuses(history) == (["error"] if attempts == 1 else ["success"])
    # The engine that came back is as good as any: it serves what comes next.
    made = [history.create(function, {"ledger": ledger.port, "lines": 1}) for _ in range(10)]
    history.settle(_PATIENCE)
    assert all((history.show(one) or {})["status"] == "success" for one in made)
    invariants.check([history], ledger, {function: Promise(max_attempts=attempts)})


def test_hangs(site: Site, ledger: Ledger) -> None:
    """The loop of an engine hangs while its heartbeat goes on: it is noticed."""
    function = site.function(max_attempts="2")
    history = site.client()
    hanging = site.deployment.start_engine("claimed=hang")
    history.create(function, {"ledger": ledger.port, "lines": 1})
    assert processes.wait_for(lambda: (history.listed() or [{}])[0].get("attempts") == 1,
                              _PATIENCE)
    began = time.monotonic()
    _await_death(hanging)
    print(f"noticed {time.monotonic() - began:.1f} s after the claim")
    site.deployment.start_engine()
    history.settle(_PATIENCE)
    assert _statuses(history) == ["success"]
    invariants.check([history], ledger, {function: Promise(max_attempts=2)})


def test_killed_again_and_again(site: Site, ledger: Ledger) -> None:
    """One of three engines is killed every few seconds under load: everything drains."""
    function = site.function(max_attempts="8")
    history = site.client()
    for _ in range(3):
        site.deployment.start_engine()
    loaded = threading.Event()

    def load() -> None:
        while not loaded.wait(0.15):
            history.create(function, {"ledger": ledger.port, "seconds": 0.5, "lines": 5},
                           key=True)

    loader = threading.Thread(target=load)
    loader.start()
    for number in range(4):
        time.sleep(4)
        site.deployment.engines[-3 + number % 2].kill()
        site.deployment.start_engine()
    loaded.set()
    loader.join()
    history.settle(_PATIENCE)
    assert _statuses(history) == ["success"]
    tries = [row["attempts"] for row in history.listed() or []]
    print(f"{len(tries)} executions, {sum(tries) - len(tries)} begun again, lost 0")
    invariants.check([history], ledger, {function: Promise(max_attempts=8)})


@pytest.mark.parametrize(("point", "sync"), [
    pytest.param("accepted", False, marks=_IN_CI), ("accepted", True),
    pytest.param("committed", True, marks=_IN_CI),
])
def test_api_killed_at(site: Site, ledger: Ledger, point: str, sync: bool) -> None:
    """An API process dies before it answers: the same key finds the execution, run once."""
    function = site.function()
    site.deployment.start_engine()
    # A warm worker, so that a synchronous request is run by the API process itself.
    site.client(project=site.project).create(function, {"ledger": ledger.port}, sync=True)
    site.deployment.start_api(f"{point}=kill")
    history = site.client(1, 0)
    # When no worker's room is seen at that moment an engine runs it, and no point is reached.
    for _ in range(20):
        warm = ledger.entries()
        made = history.create(function, {"ledger": ledger.port, "lines": 2}, sync=sync, key=True)
        if made.tries > 1:
            break
    assert made.tries > 1, "the process was to die before it answered"
    history.settle(_PATIENCE)
    replies = [history.repeat(made) for _ in range(4)]
    assert {reply.json()["id"] for reply in replies if reply is not None} == {made.id}
    row = history.show(made)
    assert row is not None
    # A synchronous one may have been begun by the process that died; it may be begun once.
    lost = {"error"} if sync and point == "accepted" else set()
    assert row["status"] in {"success"} | lost
    assert len(ledger.entries()) - len(warm) <= 1
    history.creations += site._histories[0].creations
    invariants.check([history], ledger)


def test_cancelled_by_another_process(site: Site, ledger: Ledger) -> None:
    """Cancels through any API process, of what waits, runs, and runs on a dead engine."""
    function = site.function(max_attempts="3")
    site.deployment.start_api()
    engine = site.deployment.start_engine()
    history = site.client(0, 1)
    made = [history.create(function, {"ledger": ledger.port, "seconds": 40, "lines": 400})
            for _ in range(12)]
    ledger.wait_for_starts(6, _PATIENCE)
    began = time.monotonic()
    _cancel_all(history, made[:8])
    print(f"8 cancelled within {time.monotonic() - began:.1f} s")
    assert {(history.show(one) or {})["status"] for one in made[:8]} == {"cancelled"}
    assert not {one.id for one in made[:8]} & {entry.execution_id for entry in ledger.running()}
    engine.kill()
    assert set(_cancel_all(history, made[8:])) <= {200, 202}
    site.deployment.start_engine()
    history.settle(_PATIENCE)
    assert _statuses(history) == ["cancelled"]
    invariants.check([history], ledger, {function: Promise(max_attempts=3)})


def _cancel_all(history: History, creations: list[Creation]) -> list[int | None]:
    answers: list[int | None] = []
    threads = [threading.Thread(target=lambda one=one: answers.append(history.cancel(one)))
               for one in creations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_workers_killed(site: Site, ledger: Ledger) -> None:
    """Every worker process is killed, three times, with runs in it."""
    function = site.function(max_attempts="6")
    engine = site.deployment.start_engine()
    history = site.client()
    for _ in range(12):
        history.create(function, {"ledger": ledger.port, "seconds": 2, "lines": 10})
    for _ in range(3):
        ledger.wait_for_starts(len(ledger.entries()) + 1, _PATIENCE)
        for pid, _ in engine.workers():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    history.settle(_PATIENCE)
    assert _statuses(history) == ["success"]
    invariants.check([history], ledger, {function: Promise(max_attempts=6)})
