# SPDX-License-Identifier: Apache-2.0
"""More than the service can take is refused, with a reason and a time to come back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import requests

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.ledger import MODULE, Ledger
from tests.functional.running import Running

#: One run at a time: what comes after it waits.
ONE = "[engine]\nfunction_concurrency = 1\nmax_workers_per_function = 1\n"

#: A caller stands in line when places come free as quickly as this, in seconds.
SHORT = 0.25


def start(api: Api, function: str, ledger: Ledger, **more: object) -> requests.Response:
    return api.session.post(f"{api.url}/v1/executions", headers=api.headers, timeout=60, json={
        "function_id": function, "input": f'{{"port": {ledger.port}, "wait": true}}',
        "sync": False, **more,
    })


def refused(reply: requests.Response, status: int) -> str:
    assert reply.status_code == status, reply.text
    assert int(reply.headers["Retry-After"]) > 0
    return str(reply.json()["faultstring"])


def test_a_project_may_have_so_many_waiting(start_service: Callable[..., Running],
                                            ledger: Ledger) -> None:
    running = start_service(settings=f"{ONE}[limits]\nqueued_per_project = 3\nqueued = 5\n")
    first, second, third = (running.api(project=name) for name in "abc")
    function = first.function(MODULE, timeout="60")
    one = start(first, function, ledger).json()
    processes.wait_for(lambda: first.show(one["id"])["attempts"] == 1, 20)
    accepted = [one["id"]]
    for _ in range(3):
        reply = start(first, function, ledger)
        assert reply.status_code == 201, reply.text
        accepted.append(reply.json()["id"])
    text = refused(start(first, function, ledger), 429)
    assert re.search(r"limit of the project is 3, it has [34],", text), text
    assert len(first.listed()) == 4  # what was refused left no record

    other = second.function(MODULE, timeout="60")
    for number in range(5):
        reply = start(second, other, ledger)
        if reply.status_code == 503:
            break
        assert reply.status_code == 201, (number, reply.text)
    assert "limit is 5" in refused(reply, 503)
    assert first.show(one["id"])["status"] == "running"  # reads get through
    assert third.listed() == []

    ledger.gate.set()
    for execution in accepted:
        assert first.ended(execution)["status"] == "success"
    assert processes.wait_for(lambda: start(first, function, ledger).status_code == 201, 10)
    for api in (first, second, third):
        api.close()


def test_synchronous_callers_leave_threads_to_the_others(start_service: Callable[..., Running],
                                                         ledger: Ledger) -> None:
    running = start_service(settings="[api]\nthreads = 8\nmax_sync_waits = 3\n")
    api = running.api()
    function = api.function(MODULE, timeout="60")
    callers = [running.api() for _ in range(12)]
    with flooded(callers, function, ledger, 2) as replies:
        assert processes.wait_for(lambda: len(api.listed()) == 2, 20)
        ledger.gate.set()
        kept = [reply.result() for reply in replies if reply.result().status_code == 201]
        assert [reply.json()["status"] for reply in kept] == ["success"] * 2
    for one in (*callers, api):
        one.close()


def test_one_project_never_holds_all_places(start_service: Callable[..., Running],
                                            ledger: Ledger) -> None:
    """One with three times as many callers as there are places refuses nobody but itself."""
    running = start_service(settings="[api]\nthreads = 24\nmax_sync_waits = 16\n"
                                     "[engine]\nfunction_concurrency = 16\n")
    first, second, third = (running.api(project=name) for name in "abc")
    function = first.function(MODULE, timeout="60")
    callers = [running.api(project="a") for _ in range(48)]
    with flooded(callers, function, ledger, 14), ThreadPoolExecutor(1) as pool:
        hello = second.function()
        for _ in range(5):
            assert second.run(hello)["status"] == "success"
        waits = pool.submit(start, running.api(project="b"), second.function(MODULE, timeout="60"),
                            ledger, sync=True)
        assert processes.wait_for(lambda: len(ledger.lines) == 15, 20)
        assert third.run(third.function())["status"] == "success"
        text = refused(start(first, function, ledger, sync=True), 429)
        assert "hold 14 of the 16 places" in text
        for api, name in ((first, function), (second, hello)):
            assert start(api, name, ledger).status_code == 201
        assert len(first.listed()) == 15
        ledger.gate.set()
        assert waits.result().json()["status"] == "success"
    for one in (*callers, first, second, third):
        one.close()


@contextlib.contextmanager
def flooded(callers: list[Api], function: str, ledger: Ledger,
            kept: int) -> Iterator[list[Future[requests.Response]]]:
    """Have synchronous callers of one project hold so many places; the others are refused."""
    with ThreadPoolExecutor(len(callers)) as pool:
        try:
            replies = [pool.submit(start, one, function, ledger, sync=True) for one in callers]
            over = len(callers) - kept
            processes.wait_for(lambda: sum(reply.done() for reply in replies) >= over, 20)
            done = [reply.result() for reply in replies if reply.done()]
            assert len(done) == over
            for reply in done:
                assert "places that this process has" in refused(reply, 429)
            assert processes.wait_for(lambda: len(ledger.lines) == kept, 20)
            yield replies
        finally:
            ledger.gate.set()


def test_short_runs_stand_in_line(start_service: Callable[..., Running]) -> None:
    """Nobody is refused while all runs are short; on a busy machine some may not be."""
    running = start_service(settings="[api]\nthreads = 32\nmax_sync_waits = 8\n")
    api = running.api()
    function = api.function()
    for _ in range(10):
        assert api.run(function)["status"] == "success"
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: _hello(running, function), range(200)))
    for reply in replies:
        if reply.status_code != 201:
            assert "of the 8 places" in refused(reply, 429)
            assert max(one.elapsed.total_seconds() for one in replies) > SHORT
    api.close()


def _hello(running: Running, function: str) -> requests.Response:
    api = running.api()
    try:
        return api.session.post(f"{api.url}/v1/executions", json={"function_id": function},
                                timeout=60)
    finally:
        api.close()
