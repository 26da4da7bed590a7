# SPDX-License-Identifier: Apache-2.0
"""The servers that the examples in etc/ are for, really started, behind a real Keystone."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.functional import environments, processes
from tests.functional.client import Api
from tests.functional.deployment import ROOT, Deployment, Process
from tests.functional.keystone.apache import Apache
from tests.functional.keystone.server import Keystone
from tests.functional.running import free_port

UWSGI = ("uwsgi", "pyuwsgi==2.0.30.post1")


class Uwsgi(Process):
    """The example for uWSGI, with one process and on a port of the test's own."""

    def __init__(self, folder: Path, config: Path) -> None:
        program = environments.ready(*UWSGI) / "uwsgi"
        text = (ROOT / "etc/qinling_exec/uwsgi.ini").read_text()
        self.url = f"http://127.0.0.1:{free_port()}"
        text = re.sub(r"^http-socket = .*", f"http-socket = {self.url[7:]}", text, flags=re.M)
        text = re.sub(r"^processes = .*", "processes = 1", text, flags=re.M)
        ini = folder / "uwsgi.ini"
        ini.write_text(text)
        super().__init__("uwsgi", folder, [
            str(program), "--ini", str(ini), "--pythonpath", sysconfig.get_path("purelib"),
            "--pythonpath", str(ROOT),
        ], environment={"QINLING_EXEC_CONFIG_FILES": str(config)})


@pytest.fixture(scope="module")
def engine_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def deployment(keystone: Keystone, engine_port: int,
               tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Run an engine; the API comes later."""
    folder = tmp_path_factory.mktemp("servers")
    settings: dict[str, dict[str, object]] = {
        "DEFAULT": {"auth_strategy": "keystone"},
        "api": {"processes": 1, "threads": 8},
        "monitoring": {"engine_port": engine_port},
    }
    group = ""
    for line in keystone.settings("qinling", "service").splitlines():
        if line.startswith("["):
            group = line.strip("[]")
        else:
            name, _, value = line.partition(" = ")
            settings.setdefault(group, {})[name] = value
    with Deployment(folder, f"sqlite:///{folder}/service.sqlite", apis=0, engines=1,
                    settings=settings) as made:
        yield made


def measured(port: int, name: str) -> float:
    """Return one of an engine's metrics."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    found = re.search(rf"^qinling_exec_{re.escape(name)} (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0


def gunicorn(deployment: Deployment) -> Process:
    return deployment.start_api()


def uwsgi(deployment: Deployment) -> Process:
    return Uwsgi(deployment.folder, deployment.config)


def apache(deployment: Deployment) -> Process:
    return Apache(deployment.folder, deployment.config)


@pytest.mark.parametrize("start", [gunicorn, uwsgi, apache])
def test_a_server_of_the_examples(start: Callable[[Deployment], Process], deployment: Deployment,
                                  keystone: Keystone, engine_port: int,
                                  request: pytest.FixtureRequest) -> None:
    server = start(deployment)
    request.addfinalizer(lambda: server.process.poll() is None and server.kill())
    url = str(vars(server)["url"]).rstrip("/")

    def answers() -> bool:
        try:
            return requests.get(f"{url}/healthcheck", timeout=5).ok
        except requests.RequestException:
            return False

    assert processes.wait_for(lambda: answers() or server.process.poll(), 60) is True, (
        server.log[-4000:])
    anybody = Api(url)
    assert "WWW-Authenticate" in anybody.request("GET", "/v1/executions").headers
    traced = requests.request("TRACE", f"{url}/v1/executions", timeout=30,
                              headers={"X-Auth-Token": "what-nobody-is-to-repeat"})
    assert traced.status_code >= 400 and "nobody-is-to-repeat" not in traced.text
    admin = Api(url, token=keystone.token("mine-admin", "mine"))
    admin.new_runtime()
    member = Api(url, token=keystone.token("mine-member", "mine"))
    function = member.function("def main(**kwargs):\n    print('seen')\n    return 1\n")
    for _ in range(2):  # the second one finds a warm worker
        assert member.run(function)["status"] == "success", server.log[-4000:]
    for name in ("/", "x/", "a//b"):  # servers hand over %2F as a slash, or as two, or as none
        path = f"/v1/aliases/{quote(name, safe='')}"
        member.ok("POST", "/v1/aliases", 201, json={"name": name, "function_id": function})
        assert member.ok("GET", path)["name"] == name
        member.ok("DELETE", path, 204)
    latest = member.listed(function_id=function)[0]["id"]
    followed = member.request("GET", f"/v1/executions/{latest}/log?follow=true",
                              headers={"Accept": "text/plain"})
    assert b"seen" in followed.content
    if start is not apache:  # that waits for the first bytes of a log
        _the_head_of_a_reply_comes_at_once(member)
    for caller in (anybody, admin, member):
        caller.close()
    server.terminate()
    server.process.wait(30)
    assert "Traceback" not in server.log, server.log[-4000:]
    # It signed off: only the engine is left, and says so. Nobody looks oftener than in 5 seconds.
    assert processes.wait_for(lambda: measured(engine_port, "runners_alive") == 1, 12)
    assert measured(engine_port, "runners_dead") == 0


def _the_head_of_a_reply_comes_at_once(member: Api) -> None:
    """Whoever follows a log in which nothing is yet knows at once that it can be followed."""
    silent = member.function("import time\ndef main():\n    time.sleep(50)\n", timeout="60")
    made = member.run(silent, sync=False)["id"]
    with member.session.get(
            f"{member.url}/v1/executions/{made}/log?follow=true", stream=True, timeout=20,
            headers={**member.headers, "Accept": "text/plain"}) as reply:
        assert reply.status_code == 200
        assert member.request("POST", f"/v1/executions/{made}/cancel").ok
        assert reply.content == b""


def test_what_an_engine_tells(deployment: Deployment, engine_port: int) -> None:
    health = requests.get(f"http://127.0.0.1:{engine_port}/healthcheck", timeout=30)
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert health.json()["checks"][-1]["name"] == "orchestrator"
    assert measured(engine_port, "worker_start_seconds_count") >= 1
    assert requests.get(f"http://127.0.0.1:{engine_port}/v1", timeout=30).status_code == 404
    assert measured(engine_port, 'lease_renewals_total{outcome="written"}') >= 0
