# SPDX-License-Identifier: Apache-2.0
"""The service while its database is cut off, silent or away."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests import databases
from tests.databases.proxy import Proxy, is_commit
from tests.functional import processes
from tests.functional.client import LEAKS, Api
from tests.functional.deployment import ApiProcess
from tests.functional.running import Running

pytestmark = pytest.mark.every_server

LIMITS = "connect_timeout = 2\nstatement_timeout = 2\ndown_pause = 0.2\n"


@pytest.fixture(scope="module")
def proxy(database_server: databases.Server) -> Iterator[Proxy]:
    with Proxy(database_server.port) as proxy:
        yield proxy


@pytest.fixture
def start_far(start_service: Callable[..., Running], database_server: databases.Server,
              proxy: Proxy) -> Iterator[Callable[[str], Api]]:
    """Start a service that reaches its database through a proxy, with given limits."""
    callers = []

    def start(limits: str) -> Api:
        url = database_server.through(proxy.port, database_server.new_schema())
        running = start_service(settings=f"[database]\nconnection = {url}\n{limits}")
        callers.append(running.api())
        return callers[-1]

    yield start
    for caller in callers:
        caller.close()
    proxy.heal()


@pytest.fixture
def far(start_far: Callable[[str], Api]) -> Api:
    """A service that soon takes its database for down."""
    return start_far(LIMITS)


def post(far: Api, function: str, description: str) -> requests.Response:
    return requests.post(f"{far.url}/v1/executions", timeout=40,
                         json={"function_id": function, "description": description,
                               "sync": False})


def refused(reply: requests.Response) -> bool:
    """Tell whether a reply is a 503, which has to be a clean one."""
    if reply.status_code != 503:
        return False
    assert int(reply.headers["Retry-After"]) > 0
    fault = reply.json()["faultstring"]
    assert "database" in fault
    assert not LEAKS.search(fault)
    assert "127.0.0.1" not in fault
    return True


@pytest.mark.parametrize("moment", ["to_server", "answer_to"])
def test_an_accepted_execution_is_there_once_when_its_commit_was_cut(
        start_far: Callable[[str], Api], proxy: Proxy, moment: str) -> None:
    # Where all else works, 503 for a connect that takes two seconds would be the machine's fault.
    far = start_far("connect_timeout = 20\n")
    function = far.function()
    far.run(function)
    for number in range(5):
        name = f"{moment}-{number}"
        # Other threads commit too: this one's is among the first few.
        proxy.cut_at(moment, is_commit)
        reply = post(far, function, name)
        assert reply.status_code == 201, reply.text
        assert far.show(reply.json()["id"])["description"] == name
        processes.wait_for(proxy.did_cut.is_set, 10)
        assert proxy.did_cut.is_set()
        assert len(far.listed(description=name)) == 1
        assert far.ended(reply.json()["id"])["status"] == "success"


@pytest.mark.parametrize("failure", ["refuse", "silence"])
def test_503_in_time_and_healed_when_it_is_back(far: Api, proxy: Proxy, failure: str) -> None:
    function = far.function()
    before = far.run(function)
    getattr(proxy, failure)()
    try:
        with ThreadPoolExecutor(20) as pool:
            began = time.monotonic()
            replies = list(pool.map(lambda n: post(far, function, f"lost {n}"), range(40)))
            assert time.monotonic() - began < 20
        assert all(refused(reply) for reply in replies)
        began = time.monotonic()
        times = []
        for _ in range(20):
            began = time.monotonic()
            assert refused(requests.get(f"{far.url}/v1/executions", timeout=40))
            times.append(time.monotonic() - began)
        assert sorted(times)[10] < 0.5
    finally:
        proxy.heal()

    def works() -> bool:
        return requests.get(f"{far.url}/v1/executions", timeout=40).status_code == 200

    assert processes.wait_for(works, 20)
    assert far.show(before["id"])["status"] == "success"
    after = far.run(function)
    assert far.ended(after["id"])["status"] == "success"
    # What was answered 503 may be there when its commit was under way, but never twice.
    found = [row["description"] for row in far.listed(limit="1000") if row["description"]]
    assert len(found) == len(set(found))


def test_an_api_process_that_starts_before_its_database(
        database_server: databases.Server, proxy: Proxy, tmp_path: Path) -> None:
    """It answers 503 in JSON, and begins with the first request after the database is there."""
    schema = database_server.new_schema()
    config = tmp_path / "qinling_exec.conf"
    config.write_text(
        "[DEFAULT]\nauth_strategy = noauth\n"
        f"[packages]\ndirectory = {tmp_path}/packages\n"
        f"[database]\nconnection = {database_server.through(proxy.port, schema)}\n{LIMITS}"
    )
    manage = [sys.executable, "-m", "qinling_exec.cmd.manage", "--config-file", str(config)]
    subprocess.run([*manage, "db", "sync"], check=True, capture_output=True)
    proxy.refuse()
    api = ApiProcess(0, tmp_path, {"QINLING_EXEC_CONFIG_FILES": str(config)})
    try:
        def status() -> int:
            try:
                reply = requests.get(f"{api.url}/v1/executions", timeout=20)
            except requests.ConnectionError:  # gunicorn itself is not there yet
                return 0
            return 503 if refused(reply) else reply.status_code

        processes.wait_for(lambda: status() != 0, 30)
        assert status() == 503, api.log
        assert status() == 503, api.log
        proxy.heal()
        assert processes.wait_for(lambda: status() == 200, 20), api.log
    finally:
        proxy.heal()
        assert api.stop() == 0, api.log
