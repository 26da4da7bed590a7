# SPDX-License-Identifier: Apache-2.0
"""More than the service can take is refused, with a reason and a time to come back."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
    with ThreadPoolExecutor(12) as pool:
        callers = [running.api() for _ in range(12)]
        replies = [pool.submit(start, one, function, ledger, sync=True) for one in callers]
        processes.wait_for(lambda: sum(reply.done() for reply in replies) == 9, 20)
        assert sum(reply.done() for reply in replies) == 9
        for reply in replies:
            if reply.done():
                assert "all 3 places" in refused(reply.result(), 503)
        assert processes.wait_for(lambda: len(api.listed()) == 3, 20)
        ledger.gate.set()
        kept = [reply.result() for reply in replies if reply.result().status_code == 201]
        assert [reply.json()["status"] for reply in kept] == ["success"] * 3
    for one in (*callers, api):
        one.close()


def test_short_runs_stand_in_line(start_service: Callable[..., Running]) -> None:
    """Nobody is refused while all runs are short; on a busy machine some may not be."""
    running = start_service(settings="[api]\nthreads = 16\nmax_sync_waits = 8\n")
    api = running.api()
    function = api.function()
    for _ in range(10):
        assert api.run(function)["status"] == "success"
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: _hello(running, function), range(200)))
    for reply in replies:
        if reply.status_code != 201:
            assert "all 8 places" in refused(reply, 503)
            assert max(one.elapsed.total_seconds() for one in replies) > SHORT
    api.close()


def _hello(running: Running, function: str) -> requests.Response:
    api = running.api()
    try:
        return api.session.post(f"{api.url}/v1/executions", json={"function_id": function},
                                timeout=60)
    finally:
        api.close()
