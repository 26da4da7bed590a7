# SPDX-License-Identifier: Apache-2.0
"""What is owed to clients when a process, or a worker, comes to its end or hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.deployment import Deployment
from tests.functional.ledger import MODULE, Ledger

Deploy = Callable[..., Deployment]
#: One run at a time: what comes after it waits.
ONE = {"function_concurrency": 1, "max_workers_per_function": 1}


def begin(api: Api, function: str, ledger: Ledger, **more: object) -> str:
    """Start an execution that goes on until the ledger's gate opens; return its id."""
    count = len(ledger.lines)
    made = api.run(function, {"port": ledger.port, "wait": True, **more}, sync=False)
    assert processes.wait_for(lambda: len(ledger.lines) > count, 30)
    return str(made["id"])


def server_of(deployment: Deployment, function: str) -> list[processes.Key]:
    """Return the processes that take the calls of a function's workers."""
    query = sa.text("SELECT address FROM workers WHERE function_id = :function")
    with sa.create_engine(deployment.url, poolclass=sa.pool.NullPool).connect() as connection:
        addresses = set(connection.execute(query, {"function": function}).scalars())
    return [key for key, line in deployment.engines[0].workers().items()
            if addresses & set(line.split())]


def test_an_orphan_is_ended_before_it_is_deleted(deploy: Deploy, ledger: Ledger) -> None:
    """Its record was deleted at once: nobody would have ended what a dead engine had begun."""
    deployment = deploy(settings={"engine": {"lease_seconds": 3}})
    api = deployment.api()
    made = begin(api, api.function(MODULE, timeout="60"), ledger)
    path = f"/v1/executions/{made}"
    deployment.engines[0].kill()
    refused = api.refused("DELETE", path, 409)
    assert "is being cancelled" in str(refused)
    assert api.show(made)["status"] == "running"
    deployment.start_engine()
    assert api.ended(made)["status"] == "cancelled"
    api.ok("DELETE", path, 204)
    api.refused("GET", path, 404)


def test_an_api_process_that_is_to_end_answers_who_waits(deploy: Deploy, ledger: Ledger) -> None:
    """It kept who waited for something in the queue, and itself, for as long as it may drain."""
    deployment = deploy(apis=2, settings={"engine": ONE})
    api, other = deployment.api(0), deployment.api(1)
    function = api.function(MODULE, timeout="60")
    first = begin(api, function, ledger)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.run, function, {"port": ledger.port})
        assert processes.wait_for(lambda: len(other.listed(function_id=function)) == 2, 20)
        asked = time.monotonic()
        deployment.apis[0].terminate()
        waiting = answer.result(30)
    assert deployment.apis[0].stop() == 0
    assert time.monotonic() - asked < 30  # by its configuration it may take 330
    assert waiting["status"] == "running"
    assert other.show(waiting["id"])["attempts"] == 0
    ledger.gate.set()
    assert other.ended(first)["status"] == "success"
    assert other.ended(waiting["id"])["status"] == "success"


@pytest.mark.skipif(os.environ.get("QINLING_EXEC_TEST_RELIABILITY") != "all",
                    reason="NOT RUN, it takes half a minute: tox -e reliability runs it")
def test_a_worker_that_hangs_is_gone_before_its_run_has_ended(deploy: Deploy,
                                                              ledger: Ledger) -> None:
    """The API forgot it while it was still there; another attempt could have begun beside it."""
    deployment = deploy(settings={"engine": ONE})
    api = deployment.api()
    function = api.function(MODULE, timeout="60")
    ledger.gate.set()
    api.run(function, {"port": ledger.port})
    ledger.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.run, function, {"port": ledger.port, "wait": True})
        assert processes.wait_for(lambda: len(ledger.lines) == 2, 30)
        (running,) = api.listed(function_id=function, status="running")
        ((pid, started),) = server_of(deployment, function)
        os.kill(pid, signal.SIGSTOP)
        api.request("POST", f"/v1/executions/{running['id']}/cancel")
        assert answer.result(60)["status"] == "cancelled"
        assert not processes.alive([(pid, started)])
    assert "neither answers nor ends a run" in deployment.apis[0].log
