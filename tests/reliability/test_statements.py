# SPDX-License-Identifier: Apache-2.0
"""Statements that take seconds, and statements of which a share fails, all the time."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.databases.proxy import Proxy
from tests.functional import processes
from tests.functional.running import Running
from tests.reliability import invariants
from tests.reliability.conftest import Clients, Start, make_function, threads_of
from tests.reliability.invariants import Promise
from tests.reliability.ledger import Ledger

pytestmark = pytest.mark.every_server
#: Executions while statements fail.
_COUNT = int(os.environ.get("QINLING_EXEC_TEST_EXECUTIONS", "100"))
_SEED = int(os.environ.get("QINLING_EXEC_SOAK_SEED") or random.randrange(2**32))
_LOSSY = Path(__file__).with_name("lossy")


@pytest.mark.parametrize("seconds", [1, 3])
def test_slow(service: Running, proxy: Proxy, ledger: Ledger, client: Clients,
              seconds: float) -> None:
    """Each statement takes seconds: no pile-up, an answer in time, and it is seen from outside."""
    history = client(service, patience=0)
    function = make_function(service.api())
    history.create(function, {"ledger": ledger.port}, sync=True)
    before = threads_of(service)
    proxy.delay(seconds / 2)
    times = []

    def post(_: int) -> None:
        began = time.monotonic()
        history.create(function, {"ledger": ledger.port, "lines": 2}, key=True)
        times.append(time.monotonic() - began)

    try:
        with ThreadPoolExecutor(20) as pool:
            posts = [pool.submit(post, number) for number in range(40)]
            most = 0
            while not all(one.done() for one in posts):
                most = max(most, threads_of(service))
                time.sleep(0.1)
            for one in posts:
                one.result()
        unwell = processes.wait_for(lambda: _health(service) == 503, 20)
    finally:
        proxy.heal()
    answers = Counter("201" if one.id else str(one.refused) for one in history.creations)
    print(f"{seconds} s a statement: {dict(answers)}, the slowest after {max(times):.1f} s,"
          f" threads {before} and then {most}")
    assert set(answers) <= {"201", "503", "429"}
    assert max(times) < 60
    assert most < before + 64 + 10
    assert unwell, "the health check finds nothing"
    assert processes.wait_for(lambda: _health(service) == 200, 30)
    history.patience = 60
    assert history.create(function, {"ledger": ledger.port}, sync=True, key=True).id
    history.settle(60)
    # A heartbeat that can't be written in time costs a lease, and with it what was running.
    invariants.check([history], ledger)


def _health(service: Running) -> int:
    return requests.get(f"{service.url}/healthcheck", timeout=60).status_code


@pytest.mark.in_ci
@pytest.mark.timeout(600 + _COUNT)
def test_failing(start_service: Start, url: str, ledger: Ledger, client: Clients,
                 tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement of twenty fails: what is accepted runs, and is recorded as it ended."""
    print(f"QINLING_EXEC_SOAK_SEED={_SEED} QINLING_EXEC_TEST_EXECUTIONS={_COUNT}")
    settings = f"[database]\nconnection = {url}\n"
    now = tmp_path / "now"
    monkeypatch.setenv("PYTHONPATH", str(_LOSSY))
    monkeypatch.setenv("QINLING_EXEC_TEST_FAILING", f"0.05:{_SEED}:{now}")
    service = start_service(settings=settings)
    history = client(service)
    history.patience = 240  # on a machine with much other work one answer took over a minute
    function = make_function(service.api(), max_attempts="3")
    now.touch()
    chance = random.Random(_SEED)
    plans = [(chance.random() < 0.5, chance.choice([0, 2])) for _ in range(_COUNT)]

    def create(plan: tuple[bool, int]) -> None:
        history.create(function, {"ledger": ledger.port, "lines": plan[1]}, sync=plan[0],
                       key=True)

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, plans))
    history.settle(120)
    rows = history.listed() or history.listed() or []
    again = service.log.count("tried again")
    print(f"{len(rows)} executions in {time.monotonic() - began:.0f} s,"
          f" {dict(Counter(row['status'] for row in rows))},"
          f" {sum(one.tries for one in history.creations)} requests,"
          f" {again} transactions tried again,"
          f" the slowest answer after"
          f" {max((one.accepted or 0) - one.began for one in history.creations):.0f} s")
    assert again, "no statement failed"
    assert len(history.accepted) == _COUNT
    now.unlink()
    invariants.check([history], ledger, {function: Promise(max_attempts=3)})
