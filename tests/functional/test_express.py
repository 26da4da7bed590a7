# SPDX-License-Identifier: Apache-2.0
"""Asynchronous executions that the embedded service begins with their record, past the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.running import Running

SLEEPS = """
import time

def main(seconds=0, context=None):
    time.sleep(seconds)
    return context["attempt"]
"""


def send(api: Api, function: str, seconds: float = 0) -> dict[str, Any]:
    """Ask for an execution; return the answer."""
    return api.run(function, {"seconds": seconds}, sync=False)


@pytest.fixture
def warm(start_service: Callable[..., Running]) -> Callable[..., tuple[Api, str]]:
    """Return a function that starts a service; it has a client and a function with a worker."""
    def start(**options: str) -> tuple[Api, str]:
        api = start_service(**options).api()
        function = api.function(SLEEPS)
        api.run(function)
        time.sleep(1.5)  # until the engine has seen that nothing waits any more
        return api, function

    return start


def test_whoever_has_nothing_at_work_does_not_wait(warm: Callable[..., tuple[Api, str]]) -> None:
    """Beside a flood of another project the look at the queue alone took 40 ms and more."""
    api, function = warm()
    first = send(api, function, 1)
    assert (first["status"], first["attempts"]) == ("running", 1)
    assert first["started_at"] is not None
    second = send(api, function)
    assert (second["attempts"], second["started_at"]) == (0, None)
    for record in (first, second):
        assert output(api.ended(record["id"])) == 1


def test_what_may_not_run_yet_waits_in_the_queue(warm: Callable[..., tuple[Api, str]]) -> None:
    """Past the project's limit a synchronous one is refused, an asynchronous one is not."""
    api, function = warm(settings="[quotas]\nrunning_executions = 1\n")
    caller = threading.Thread(target=Api(api.url).run, args=(function, {"seconds": 2}))
    caller.start()
    assert processes.wait_for(lambda: len(api.listed()) == 2, 10)
    record = send(api, function)
    assert (record["attempts"], record["started_at"]) == (0, None)
    caller.join()
    assert output(api.ended(record["id"])) == 1


def test_the_first_of_a_function_waits_for_a_worker(start_service: Callable[..., Running]
                                                    ) -> None:
    api = start_service().api()
    record = send(api, api.function(SLEEPS))
    assert record["attempts"] == 0
    assert output(api.ended(record["id"])) == 1


def test_what_goes_on_ends_before_the_service_does(start_service: Callable[..., Running]) -> None:
    running = start_service()
    api = running.api()
    function = api.function(SLEEPS)
    api.run(function)
    record = send(api, function, 1.5)
    running.stop()
    again = start_service()
    assert output(again.api().show(record["id"])) == 1
