# SPDX-License-Identifier: Apache-2.0
"""Engines: drained, told to read their configuration again, hanging."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.deployment import Deployment
from tests.functional.ledger import MODULE, Ledger

Deploy = Callable[..., Deployment]
SLEEPER = "import time\n\n\ndef main(seconds, **kwargs):\n    time.sleep(seconds)\n"
#: One run at a time: what comes after it waits.
ONE = {"function_concurrency": 1, "max_workers_per_function": 1}


def begin(api: Api, function: str, ledger: Ledger, word: str) -> str:
    """Start an execution that goes on until the ledger's gate opens; return its id."""
    given = {"port": ledger.port, "wait": True, "word": word}
    made = api.run(function, given, sync=False)["id"]
    assert processes.wait_for(lambda: word in ledger.lines, 30)
    return str(made)


def begins_at_once(api: Api, function: str, ledger: Ledger, word: str) -> bool:
    """Start an execution that may have to wait for too long; tell whether it was begun."""
    given = {"port": ledger.port, "wait": True, "word": word}
    made = api.run(function, given, sync=False)["id"]
    processes.wait_for(lambda: word in ledger.lines or api.show(made)["status"] == "error", 30)
    return word in ledger.lines


@pytest.mark.every_server
def test_a_drained_engine_hands_over_what_does_not_end(deploy: Deploy, ledger: Ledger) -> None:
    deployment = deploy(engines=1, settings={"engine": {"lease_seconds": 60,
                                                        "drain_seconds": 4}})
    api = deployment.api()
    fields = {"timeout": "60", "runtime_id": deployment.runtime}
    twice = begin(api, api.function(MODULE, max_attempts="2", **fields), ledger, "twice")
    once = begin(api, api.function(MODULE, **fields), ledger, "once")
    sleeper = api.function(SLEEPER, **fields)
    api.run(sleeper, {"seconds": 0})  # its worker is there
    short = api.run(sleeper, {"seconds": 1}, sync=False)["id"]
    assert processes.wait_for(lambda: api.show(short)["attempts"] == 1, 20)
    deployment.start_engine()
    deployment.engines[0].terminate()
    # Long before the lease of the one that ends would be over.
    assert processes.wait_for(lambda: ledger.lines.count("twice") == 2, 30), deployment.log()
    assert deployment.engines[0].stop() == 0
    ended = api.ended(once)
    assert (ended["status"], ended["attempts"]) == ("error", 1)
    assert "was stopped before the function answered" in output(ended)
    ledger.gate.set()
    ended = api.ended(twice)
    assert (ended["status"], ended["attempts"]) == ("success", 2)
    ended = api.show(short)
    assert (ended["status"], ended["attempts"]) == ("success", 1)
    assert sorted(ledger.lines) == ["once", "twice", "twice"]


def test_what_waits_too_long_ends_and_options_are_read_again(deploy: Deploy,
                                                             ledger: Ledger) -> None:
    deployment = deploy(settings={"engine": {**ONE, "lease_seconds": 6}})
    engine, api = deployment.engines[0], deployment.api()
    function = api.function(MODULE, timeout="60")

    def waits_in_vain() -> None:
        waiting = api.run(function, {"port": ledger.port, "word": "never"}, sync=False)["id"]
        ended = api.ended(waiting)
        assert (ended["status"], ended["attempts"]) == ("error", 0)
        assert "could not be started within 1 seconds" in output(ended)

    first = begin(api, function, ledger, "first")
    deployment.configure({"engine": {**ONE, "lease_seconds": 6, "max_age": 1}})
    engine.reload()
    waits_in_vain()
    deployment.configure({"engine": {**ONE, "lease_seconds": 6, "max_age": "nonsense"}})
    engine.reload()
    assert processes.wait_for(lambda: "stays as it was" in engine.log, 10)
    assert api.show(first)["status"] == "running"
    engine.crash()  # the one that is started in its place has the last good options too
    assert api.ended(first)["status"] == "error"
    # A worker that has to be started first may take longer than a second.
    assert processes.wait_for(lambda: begins_at_once(api, function, ledger, "second"), 60)
    waits_in_vain()
    assert ledger.lines == ["first", "second"]
    ledger.gate.set()


def test_an_engine_that_hangs_is_noticed_and_replaced(deploy: Deploy) -> None:
    deployment = deploy(settings={"engine": {"lease_seconds": 3}},
                        engine_faultpoints="claimed=hang")
    engine, api = deployment.engines[0], deployment.api()
    hanging = engine.pid
    made = api.run(api.function(), sync=False)["id"]
    ended = api.ended(made)  # its heartbeat went on all the time
    assert (ended["status"], ended["attempts"]) == ("error", 1)
    assert "died" in output(ended)
    assert "it hangs" in engine.log
    assert engine.pid != hanging
