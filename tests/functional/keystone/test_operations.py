# SPDX-License-Identifier: Apache-2.0
"""What an operator sees: health, metrics, logs, reports; and what the configuration says."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone

Start = Callable[..., Deployed]
DEFAULT = "use_json = true\nlog_file = json.log\nlog_dir = {folder}"
SETTINGS = """
[oslo_middleware]
enable_proxy_headers_parsing = true
[cors]
allowed_origin = https://dashboard.example.org
[engine]
lease_second = 5
[audit]
map_file = {map_file}
"""
MAP_FILE = Path(__file__).parents[3] / "etc/qinling_exec/api_audit_map.conf"
MISSING = "00000000-0000-4000-8000-000000000000"
GLOBAL = "req-11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def running(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """One with JSON logs, behind a proxy, with pages of another origin."""
    folder = tmp_path_factory.mktemp("operations")
    keystone.service("operations", "function-engine", "http://127.0.0.1:9/")
    made = Deployed(folder, keystone.settings("qinling", "service")
                    + SETTINGS.format(map_file=MAP_FILE),
                    default=DEFAULT.format(folder=folder)).wait_ready()
    yield made
    made.stop()


@pytest.fixture
def caller(running: Deployed, tokens: dict[tuple[str, str], str]) -> Iterator[Api]:
    made = running.api(token=tokens["mine", "member"])
    yield made
    made.close()


def entries(running: Deployed) -> list[dict[str, Any]]:
    """Return the JSON log."""
    return [json.loads(line) for line in (running.data_dir / "json.log").read_text().splitlines()]


def fetch(running: Deployed, path: str, **headers: str) -> requests.Response:
    return requests.get(running.url + path, headers=headers, timeout=30)


def test_health_without_a_token(running: Deployed) -> None:
    reply = fetch(running, "/healthcheck")
    assert reply.status_code == 200
    assert {check["name"]: check["healthy"] for check in reply.json()["checks"]} == {
        "database": True, "schema": True, "lease": True, "orchestrator": True}
    assert fetch(running, "/healthcheck", Forwarded="for=192.0.2.1").json() == {"status": "ok"}


def test_metrics(running: Deployed, caller: Api) -> None:
    caller.ok("GET", "/v1/executions")
    text = fetch(running, "/metrics").text
    assert re.search(r'^qinling_exec_requests_total\{method="GET",route="/v1/executions",'
                     r'status="200"\} [1-9]', text, re.M)
    assert re.search(r"^qinling_exec_database_up 1\.0$", text, re.M)
    assert re.search(r"^qinling_exec_runners_alive 1\.0$", text, re.M)
    assert processes.wait_for(lambda: re.search(
        r'^qinling_exec_lease_renewals_total\{outcome="written"\} [1-9]',
        fetch(running, "/metrics").text, re.M), 20)
    assert fetch(running, "/metrics", **{"X-Forwarded-For": "127.0.0.1"}).status_code == 401


def test_each_line_has_the_request_ids(running: Deployed, caller: Api) -> None:
    reply = caller.request("GET", "/v1/functions?limit=3",
                           headers={"X-OpenStack-Request-ID": GLOBAL})
    own = reply.headers["X-Openstack-Request-Id"]
    (line,) = [one for one in entries(running) if one["name"] == "qinling_exec.api.access"
               and one["context"]["request_id"] == own]
    assert line["context"]["global_request_id"] == GLOBAL
    assert re.search(r'"GET /v1/functions\?limit=3" 200 \d', line["message"])


def test_a_refused_request_has_no_others_context(running: Deployed, caller: Api) -> None:
    for _ in range(16):  # each thread of the server has served somebody
        caller.ok("GET", "/v1/executions")
    own = fetch(running, "/v1/executions").headers["X-Openstack-Request-Id"]
    (line,) = [one for one in entries(running) if one["name"] == "qinling_exec.api.access"
               and one["context"]["request_id"] == own]
    assert " 401 " in line["message"]
    assert not line["context"]["project_id"]


def test_a_misspelt_option_is_reported(running: Deployed) -> None:
    assert any("[engine] lease_second: is it misspelt" in line["message"]
               for line in entries(running))


def test_behind_a_proxy(running: Deployed) -> None:
    reply = fetch(running, "/", Forwarded="for=192.0.2.7;proto=https;host=functions.example.org")
    assert reply.json()["versions"][0]["links"][0]["href"] == "https://functions.example.org/v1"
    assert any('192.0.2.7 "GET /"' in line["message"] for line in entries(running))


def test_pages_of_another_origin(running: Deployed, caller: Api) -> None:
    origin = {"Origin": "https://dashboard.example.org"}
    asked = requests.options(running.url + "/v1/executions", timeout=30, headers={
        **origin, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-Auth-Token, Content-Type"})
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    reply = caller.request("GET", "/v1/executions", headers=origin)
    assert reply.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    assert "X-OpenStack-Request-ID" in reply.headers["Access-Control-Expose-Headers"]
    other = caller.request("GET", "/v1/executions", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_report_of_all_threads(running: Deployed, keystone: Keystone) -> None:
    """On SIGUSR2; the service goes on, and no secret is in it."""
    running.send(signal.SIGUSR2)
    assert processes.wait_for(lambda: "Configuration of the service" in running.log, 30)
    assert processes.wait_for(lambda: "lease_seconds" in running.log, 10)
    assert "heartbeat" in running.log or "leases.py" in running.log
    assert fetch(running, "/").status_code == 200
    secrets = ("of-the-tests-only", "sqlite:///")
    assert not [secret for secret in secrets if secret in running.log]


def test_no_secret_is_in_the_logs(running: Deployed, caller: Api) -> None:
    caller.ok("GET", "/v1/executions")
    text = (running.data_dir / "json.log").read_text() + running.log
    assert caller.headers["X-Auth-Token"] not in text
    assert "of-the-tests-only" not in text


def test_options_that_contradict_stop_the_start(start_deployed: Start,
                                                keystone: Keystone) -> None:
    running = start_deployed(keystone.settings("qinling", "service")
                             + "[limits]\nmin_cpu = 900\n", ready=False)
    assert running.wait() != 0
    assert "[limits] min_cpu = 900" in running.log


def audited(running: Deployed, path: str) -> list[str]:
    """Return the audit events of requests for a path."""
    return [line["message"] for line in entries(running)
            if line["name"] == "qinling_exec.audit" and f"'requestPath': '{path}'"
            in line["message"] and "audit.http.response" in line["message"]]


def test_audit_events_say_who_did_what(running: Deployed, caller: Api) -> None:
    caller.ok("POST", "/v1/functions", 201, data={
        "code": json.dumps({"source": "image", "image": "i"})})
    caller.refused("DELETE", f"/v1/functions/{MISSING}", 404)
    caller.ok("GET", "/v1/functions")
    (made,) = audited(running, "/v1/functions")  # and none of the GET
    assert "'action': 'create'" in made
    assert "'name': 'mine-member'" in made
    assert "'outcome': 'success'" in made
    assert "'reasonCode': '201'" in made
    assert "'typeURI': 'service/functions/functions'" in made
    (refused,) = audited(running, f"/v1/functions/{MISSING}")
    assert "'action': 'delete'" in refused
    assert "'outcome': 'failure'" in refused
    assert "'reasonCode': '404'" in refused
    assert "'typeURI': 'service/functions/functions/function'" in refused


def test_no_part_of_a_token_is_in_audit_events(running: Deployed, caller: Api) -> None:
    """The filter shows the first and the last eighth of a token that it gets."""
    caller.refused("POST", "/v1/executions", 404, json={"function_id": MISSING})
    (event,) = audited(running, "/v1/executions")
    token = caller.headers["X-Auth-Token"]
    assert token[:12] not in event
    assert token[-12:] not in event


def test_the_request_ids_follow_an_execution(running: Deployed, caller: Api,
                                             tokens: dict[tuple[str, str], str]) -> None:
    """From the API through the engine to the worker, which writes to the engine's output."""
    admin = running.api(token=tokens["mine", "admin"])
    admin.new_runtime()
    function = caller.function("import os\ndef main():\n    os._exit(3)\n")
    reply = caller.request("POST", "/v1/executions", json={"function_id": function, "sync": False},
                           headers={"X-OpenStack-Request-ID": GLOBAL})
    own, made = reply.headers["X-Openstack-Request-Id"], reply.json()["id"]
    assert caller.ended(made)["status"] == "failed"
    wanted = f"Execution {made} ended: failed."
    assert processes.wait_for(lambda: any(one["message"] == wanted for one in entries(running)), 9)
    (line,) = [one for one in entries(running) if one["message"] == wanted]
    context = line["context"]
    assert (context["request_id"], context["global_request_id"]) == (own, GLOBAL)
    (line,) = [one for one in map(json.loads, re.findall(r"^{.*}$", running.log, re.MULTILINE))
               if one["message"] == f"execution {made} ended: exit"]
    assert line["context"] == {"request_id": own, "global_request_id": GLOBAL}
    admin.close()
