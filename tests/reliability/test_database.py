# SPDX-License-Identifier: Apache-2.0
"""The database stops, hangs, is slow, cuts connections, or has deadlocks: all of it real."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from tests import databases
from tests.databases.proxy import Proxy
from tests.functional import processes
from tests.functional.running import Running
from tests.reliability import invariants
from tests.reliability.conftest import Clients, Start, make_function, threads_of
from tests.reliability.ledger import Ledger

pytestmark = pytest.mark.every_server
#: Within which a request is answered while the database is away, in seconds.
_LIMIT = 30


def _post(service: Running, function: str, ledger: Ledger) -> requests.Response:
    return requests.post(f"{service.url}/v1/executions", timeout=60, json={
        "function_id": function, "sync": False, "input": f'{{"ledger": {ledger.port}}}'})


def _is_refused(service: Running, function: str, ledger: Ledger) -> None:
    """A POST is refused in time, in words, and says when to come again."""
    began = time.monotonic()
    reply = _post(service, function, ledger)
    assert reply.status_code == 503, reply.text
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.json()["faultstring"]
    assert time.monotonic() - began < _LIMIT


@pytest.mark.in_ci
def test_stopped(tmp_path: Path, database_kind: str, start_service: Start, ledger: Ledger,
                 client: Clients) -> None:
    """Stopped and started: 503 meanwhile, and what ran through it is recorded as it ended."""
    with databases.start(database_kind) as server:
        service = start_service(settings=f"[database]\nconnection = {server.url}\n")
        history = client(service)
        function = make_function(service.api())
        for _ in range(6):
            history.create(function, {"ledger": ledger.port, "seconds": 4, "lines": 40})
        ledger.wait_for_starts(3, 30)
        server.kill()
        _is_refused(service, function, ledger)
        reply = requests.get(f"{service.url}/v1/executions/{history.accepted[0].id}", timeout=60)
        assert reply.status_code == 503
        first = ledger.entries()[:3]
        assert processes.wait_for(lambda: all(entry.end for entry in first), 15)
        server.start()
        back = time.monotonic()
        history.settle(30)
        print(f"settled {time.monotonic() - back:.1f} s after the database was back")
        assert {row["status"] for row in history.listed() or []} == {"success"}
        invariants.check([history], ledger)
        service.stop()


def test_away_for_longer_than_the_lease(service: Running, proxy: Proxy, ledger: Ledger,
                                        database_server: databases.Server, url: str,
                                        start_service: Start, client: Clients) -> None:
    """No runner goes on when its lease is over: its runs are gone before others may begin."""
    service.stop()
    through = database_server.through(proxy.port, url)
    service = start_service("short", settings="[engine]\nlease_seconds = 4\n"
                            f"[database]\nconnection = {through}\n")
    history = client(service)
    function = make_function(service.api())
    for _ in range(3):
        history.create(function, {"ledger": ledger.port, "seconds": 40})
    ledger.wait_for_starts(3, 30)
    proxy.refuse()
    cut = time.monotonic()
    ledger.wait_until_gone(4 + 1)
    print(f"runs were stopped {time.monotonic() - cut:.1f} s after the cut")
    time.sleep(4)
    proxy.heal()
    history.settle(15)
    assert {row["status"] for row in history.listed() or []} == {"error"}
    invariants.check([history], ledger)


def test_hangs(service: Running, proxy: Proxy, ledger: Ledger, client: Clients) -> None:
    """A black hole: requests are answered in time, threads do not pile up, and it heals."""
    history = client(service)
    function = make_function(service.api())
    history.create(function, {"ledger": ledger.port, "seconds": 1})
    ledger.wait_for_starts(1, 30)
    before = threads_of(service)
    proxy.silence()
    callers = [threading.Thread(target=_is_refused, args=(service, function, ledger))
               for _ in range(20)]
    began = time.monotonic()
    for caller in callers:
        caller.start()
    most = 0
    while any(caller.is_alive() for caller in callers):
        most = max(most, threads_of(service))
        time.sleep(0.1)
    assert time.monotonic() - began < 2 * _LIMIT
    assert most < before + 64 + 10
    proxy.heal()
    history.settle(30)
    assert history.create(function, {"ledger": ledger.port}).id
    history.settle(30)
    invariants.check([history], ledger)


@pytest.mark.parametrize("moment", ["to_server",
                                    pytest.param("answer_to", marks=pytest.mark.in_ci)])
def test_cut_at_a_commit(service: Running, proxy: Proxy, ledger: Ledger, client: Clients,
                         moment: str) -> None:
    """The connection is cut when COMMIT is sent, or carried out and not answered."""
    history = client(service)
    function = make_function(service.api())
    history.create(function, {"ledger": ledger.port})
    history.settle(30)
    for _ in range(25):
        proxy.cut_at(moment, lambda data: b"COMMIT" in data.upper())
        history.create(function, {"ledger": ledger.port, "lines": 3}, key=True)
        proxy.did_cut.wait(2)
    history.settle(60)
    assert {row["status"] for row in history.listed() or []} == {"success"}
    invariants.check([history], ledger)


def test_cut_without_a_key(service: Running, proxy: Proxy, ledger: Ledger,
                           client: Clients) -> None:
    """A 2xx is kept, and an error is no lie, also for requests that can't be repeated."""
    history = client(service)
    function = make_function(service.api())
    for number in range(25):
        proxy.cut_at(("to_server", "answer_to")[number % 2],
                     lambda data: b"COMMIT" in data.upper())
        history.create(function, {"ledger": ledger.port, "lines": 3}, patience=0,
                       sync=number % 3 == 0)
        proxy.did_cut.wait(2)
    proxy.heal()
    history.settle(60)
    invariants.check([history], ledger)


def test_cut_at_random(service: Running, proxy: Proxy, ledger: Ledger, client: Clients) -> None:
    """One of fifty packets to the database cuts its connection, while work goes on."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    history = client(service)
    function = make_function(service.api())
    history.create(function, {"ledger": ledger.port})
    history.settle(30)
    going = threading.Event()

    def cut() -> None:
        while not going.wait(0.02):
            proxy.cut_at(chance.choice(["to_server", "answer_to"]),
                         lambda _data: chance.random() < 0.02)

    cutter = threading.Thread(target=cut)
    cutter.start()
    for _ in range(100):
        history.create(function, {"ledger": ledger.port, "lines": 3}, key=True)
    going.set()
    cutter.join()
    proxy.heal()
    history.settle(60)
    invariants.check([history], ledger)


@pytest.mark.in_ci
def test_deadlocks(service: Running, database_server: databases.Server, url: str,
                   ledger: Ledger, client: Clients, database_kind: str) -> None:
    """Transactions of another deadlock with those of the service, again and again."""
    history = client(service)
    function = make_function(service.api())
    history.create(function, {"ledger": ledger.port})
    history.settle(30)
    going = threading.Event()
    seen: list[bool] = []
    hostile = threading.Thread(target=_deadlock, args=(url, database_kind, function, going, seen))
    hostile.start()
    # On a machine that is busy enough the other comes so late that PostgreSQL, which looks once,
    # takes it for the one that closes the circle: then there are more rounds.
    until = time.monotonic() + 90
    while len(history.creations) < 41 or (_lost(service) < 3 and time.monotonic() < until):
        history.create(function, {"ledger": ledger.port, "lines": 3}, key=True)
    going.set()
    hostile.join()
    history.settle(60)
    print(f"{len(seen)} rounds, the service lost {_lost(service)} times, the other {sum(seen)}")
    assert _lost(service) >= 3, "the service's transactions were to be some of those that lose"
    others = [row for row in history.listed() or [] if row["status"] != "success"]
    assert others == [], [(row["status"], row["result"]) for row in others]
    invariants.check([history], ledger)


def _lost(service: Running) -> int:
    """Return how many deadlocks the service's own transactions have lost, as its log says.

    The statistics of a PostgreSQL connection come up to ten seconds late when it is idle.
    """
    return service.log.count("A transaction is tried again (conflict).")


def _deadlock(url: str, kind: str, function: str, going: threading.Event,
              seen: list[bool]) -> None:
    """Hold the function's row, then ask for what a transaction that waits for it has."""
    engine = sa.create_engine(url)
    ask = ("LOCK TABLE executions IN SHARE MODE" if kind == "postgresql"
           else "SELECT id FROM executions FOR UPDATE")
    with engine.begin() as connection:  # makes it the costlier one to roll back
        connection.exec_driver_sql("CREATE TABLE heavy (number INTEGER)")
    while not going.wait(0.05):
        try:
            with engine.begin() as connection:
                for number in range(50):
                    connection.execute(sa.text("INSERT INTO heavy VALUES (:n)"), {"n": number})
                connection.execute(sa.text("SELECT id FROM functions WHERE id = :id FOR UPDATE"),
                                   {"id": function})
                time.sleep(0.05)
                connection.exec_driver_sql(ask)
            seen.append(False)
        except sa.exc.OperationalError:
            seen.append(True)
    engine.dispose()
