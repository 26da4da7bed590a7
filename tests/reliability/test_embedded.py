# SPDX-License-Identifier: Apache-2.0
"""The embedded service is killed, ended and started again; on each database."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.functional.running import Running
from tests.reliability import invariants
from tests.reliability.conftest import make_function
from tests.reliability.history import History
from tests.reliability.invariants import Promise
from tests.reliability.ledger import Ledger

Start = Callable[..., Running]
pytestmark = pytest.mark.every_database
#: Room for 200 runs of one project; the last eighth of all room is for others.
_WIDE = "[engine]\nfunction_concurrency = 50\nrun_threads = 240\n"


def test_killed_with_200_runs(start_service: Start, settings: str, ledger: Ledger,
                              client: Callable[..., History]) -> None:
    """Kill -9 with 200 runs going on: each ends once, with a reason; none runs on or again."""
    service = start_service(settings=settings + _WIDE)
    history = client(service)
    function = make_function(service.api(), timeout=250)
    made = [history.create(function, {"ledger": ledger.port, "seconds": 240, "lines": 2400})
            for _ in range(200)]
    ledger.wait_for_starts(200, 200)
    killed = time.monotonic()
    service.below()
    service.kill()
    ledger.wait_until_gone(5)
    again = start_service(settings=settings + _WIDE, port=service.port)
    history.settle(120)
    print(f"settled {time.monotonic() - killed:.1f} s after the kill")
    rows = [history.show(one) for one in made]
    assert {row["status"] for row in rows if row} == {"error"}
    assert again.port == service.port
    invariants.check([history], ledger)


@pytest.mark.in_ci("sqlite")
def test_killed_runs_are_begun_again(start_service: Start, settings: str, ledger: Ledger,
                                     client: Callable[..., History]) -> None:
    """Kill -9: what may be begun again is, once the first attempt is gone, and succeeds."""
    service = start_service(settings=settings)
    history = client(service)
    function = make_function(service.api(), max_attempts="3")
    for _ in range(20):
        history.create(function, {"ledger": ledger.port, "seconds": 3, "lines": 30})
    ledger.wait_for_starts(5, 60)
    service.kill()
    start_service(settings=settings, port=service.port)
    history.settle(120)
    assert {row["status"] for row in history.listed() or []} == {"success"}
    invariants.check([history], ledger, {function: Promise(max_attempts=3)})


def test_ended_and_started_again(start_service: Start, settings: str, ledger: Ledger,
                                 client: Callable[..., History]) -> None:
    """SIGTERM with runs and a queue: the runs end, what waits runs after the next start."""
    narrow = settings + "[engine]\nfunction_concurrency = 1\nmax_workers_per_function = 2\n"
    service = start_service(settings=narrow)
    history = client(service)
    function = make_function(service.api())
    for _ in range(8):
        history.create(function, {"ledger": ledger.port, "seconds": 2, "lines": 4})
    ledger.wait_for_starts(2, 30)
    assert service.stop() == 0
    assert not ledger.running()
    begun = len(ledger.entries())
    assert begun < 8
    start_service(settings=narrow, port=service.port)
    history.settle(120)
    assert {row["status"] for row in history.listed() or []} == {"success"}
    assert len(ledger.entries()) == 8
    invariants.check([history], ledger)
