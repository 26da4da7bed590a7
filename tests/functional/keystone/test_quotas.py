# SPDX-License-Identifier: Apache-2.0
"""Limits of projects: kept by a real Keystone, and without one by the configuration."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api, make_zip
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone
from tests.functional.running import Running

Start = Callable[..., Running]
SLEEPS = "import time\ndef main(**kwargs):\n    time.sleep(30)\n"
SIZE = len(make_zip({"main.py": SLEEPS}))


def refused_over(caller: Api, resource: str, limit: int, status: int, path: str,
                 **request: Any) -> None:
    """Ask for one too many; the reply names the limit and the usage."""
    text = caller.refused("POST", path, status, **request)
    assert text.startswith(f"Quota exceeded for {resource}: the limit of the project is {limit},"
                           f" it has {limit}, and 1 more"), text


@pytest.fixture(scope="module")
def limited(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Run a service whose limits Keystone keeps; one project has more functions than others."""
    keystone.user("mine-member", "richer", "member")
    endpoint = keystone.service("limited", "limited-functions", "http://127.0.0.1:9/")
    keystone.limits(endpoint, {"functions": 2, "package_bytes": 10 ** 6,
                               "running_executions": 1, "queued_executions": 2})
    keystone.project_limit(endpoint, "richer", "functions", 3)
    settings = keystone.settings("qinling", "service") + (
        "[limits]\nmax_timeout = 60\n[quotas]\ndriver = unified\n"
        "cache_seconds = 1\n[oslo_limit]\n" + keystone.reading_limits()
        + f"endpoint_id = {endpoint['id']}\n")
    running = Deployed(tmp_path_factory.mktemp("limited") / "service",
                       settings).wait_ready()
    admin = running.api(token=keystone.token("mine-admin", "mine"))
    admin.new_runtime()
    admin.close()
    yield running
    assert running.stop() == 0, running.log[-4000:]
    assert "Traceback" not in running.log, running.log[-6000:]


def test_limits_of_keystone(limited: Deployed, keystone: Keystone) -> None:
    """One may be other for one project; a change of it holds after a while."""
    image = {"data": {"code": '{"source": "image", "image": "i"}'}}
    for project, most in (("mine", 2), ("richer", 3)):
        caller = limited.api(token=keystone.token("mine-member", project))
        for _ in range(most):
            caller.ok("POST", "/v1/functions", 201, **image)
        refused_over(caller, "functions", most, 403, "/v1/functions", **image)
        caller.close()


def test_executions_of_a_project_with_limits(limited: Deployed, keystone: Keystone) -> None:
    caller = limited.api(token=keystone.token("other-member", "other"))
    function = caller.function(SLEEPS, timeout=60)
    first = caller.ok("POST", "/v1/executions", 201,
                      json={"function_id": function, "sync": False})
    assert processes.wait_for(lambda: caller.show(first["id"])["started_at"], 20)
    refused_over(caller, "running_executions", 1, 429, "/v1/executions",
                 json={"function_id": function})
    waiting = [caller.ok("POST", "/v1/executions", 201,
                         json={"function_id": function, "sync": False}) for _ in range(2)]
    refused_over(caller, "queued_executions", 2, 429, "/v1/executions",
                 json={"function_id": function, "sync": False})
    # There is room for three on the worker; the project may use one.
    assert not [one for one in waiting if caller.show(one["id"])["started_at"]]
    caller.ok("POST", f"/v1/executions/{first['id']}/cancel")
    assert processes.wait_for(
        lambda: sum(bool(caller.show(one["id"])["started_at"]) for one in waiting) == 1, 20)
    for one in waiting:
        caller.ok("DELETE", f"/v1/executions/{one['id']}", 204)
    caller.close()


def test_without_keystone_what_was_told_counts(limited: Deployed, keystone: Keystone) -> None:
    """Who was not asked about before is refused with 503: nobody is without limits."""
    known = limited.api(token=keystone.token("mine-member", "richer"))
    known.ok("GET", "/v1/functions")
    keystone.stop()
    try:
        image = {"data": {"code": '{"source": "image", "image": "i"}'}}
        processes.wait_for(lambda: False, 1.1)  # what is known is older than the cache
        refused_over(known, "functions", 3, 403, "/v1/functions", **image)
    finally:
        keystone.start()
        known.close()


@pytest.fixture
def settled(start_service: Start) -> Callable[[str], Api]:
    """Start an embedded service with limits of its own."""
    return lambda settings: start_service(settings=f"[quotas]\n{settings}\n").api()


def test_limits_of_the_configuration(settled: Callable[[str], Api]) -> None:
    caller = settled(f"functions = 2\npackage_bytes = {SIZE}\nrunning_executions = 1")
    function = caller.function(SLEEPS)
    text = caller.refused("PUT", f"/v1/functions/{function}", 403, data={}, files={
        "package": ("f.zip", make_zip({"main.py": SLEEPS + "# one more line\n"}))})
    assert text.startswith(f"Quota exceeded for package_bytes: the limit of the project is {SIZE}")
    assert caller.run(caller.function(SLEEPS, timeout=1))["status"] == "failed"
    refused_over(caller, "functions", 2, 403, "/v1/functions", data={
        "code": '{"source": "image", "image": "i"}'})
    caller.close()


def test_synchronous_executions_at_once(settled: Callable[[str], Api]) -> None:
    """Those that find a warm worker are run or refused; never more run than may."""
    caller = settled("running_executions = 2")
    function = caller.function("import time\ndef main(**kwargs):\n    time.sleep(1)\n")
    caller.run(function)
    statuses: list[int] = []

    def one() -> None:
        mine = Api(caller.url)
        statuses.append(mine.request("POST", "/v1/executions",
                                     json={"function_id": function}).status_code)
        mine.close()

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {201, 429}
    done = caller.listed(function_id=function)
    spans = [(one["started_at"], one["finished_at"]) for one in done]
    assert max(sum(begin <= at < end for begin, end in spans) for at, _ in spans) <= 2
    caller.close()
