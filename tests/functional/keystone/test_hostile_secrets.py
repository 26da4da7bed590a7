# SPDX-License-Identifier: Apache-2.0
"""What is secret is looked for in all that the service writes and answers."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone

MAP_FILE = Path(__file__).parents[3] / "etc/qinling_exec/api_audit_map.conf"
SETTINGS = """
memcache_secret_key = secret-of-memcached
[audit]
map_file = {map_file}
[tracing]
exporter = file
file = {folder}/spans.jsonl
[oslo_limit]
password = secret-of-limits
[database]
slave_connection = postgresql://u:secret-of-a-replica@h/d
"""
#: Each is sent in one place, and may come back to its own project only.
INPUT, RESULT, PRINTED, SOURCE, KEY = (
    f"secret-{what}" for what in ("input", "result", "printed", "source", "key"))
CODE = f"""
def main(word, fail=False, **kwargs):
    # {SOURCE}
    print("{PRINTED}")
    if fail:
        raise ValueError(word)
    return "{RESULT}"
"""


@pytest.fixture(scope="module")
def running(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """One that writes all that it can: debugging, audit events, spans."""
    folder = tmp_path_factory.mktemp("secrets")
    made = Deployed(folder, keystone.settings("qinling", "service")
                    + SETTINGS.format(map_file=MAP_FILE, folder=folder),
                    default="debug = true").wait_ready()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def secrets(running: Deployed, keystone: Keystone) -> Iterator[list[str]]:
    """Do everything that there is, well and badly; return what is to be seen nowhere."""
    tokens = [keystone.token("mine-admin", "mine"), keystone.token("qinling", "service"),
              "gAAAAA-a-token-that-is-none"]
    caller = running.api(token=tokens[0])
    caller.headers["X-Service-Token"] = tokens[1]
    caller.new_runtime()
    function = caller.function(CODE)
    for given in ({"word": INPUT}, {"word": INPUT, "fail": True}):
        body = {"function_id": function, "input": json.dumps(given)}
        for _ in range(2):  # by an engine, and by the API
            caller.ok("POST", "/v1/executions", 201, json=body, headers={"Idempotency-Key": KEY}
                      if "fail" not in given else {})
    for odd in (f'{{"input": "{INPUT}"', f'{{"input": ["{INPUT}"]}}', f'{{"{INPUT}": 1}}'):
        caller.request("POST", "/v1/executions", data=odd.encode(),
                       headers={"Content-Type": "application/json"})
    caller.refused("GET", "/v1/executions", 401, headers={"X-Auth-Token": tokens[2]})
    break_the_database(running, caller, function)
    caller.close()
    with sqlite3.connect(running.data_dir / "service.sqlite") as database:
        workers = [row[0] for row in database.execute("SELECT secret FROM workers")]
    assert workers and all(len(secret) > 20 for secret in workers)
    yield [*tokens, *workers, INPUT, RESULT, PRINTED, SOURCE, KEY, "of-the-tests-only",
           f"sqlite:///{running.data_dir}", "secret-of-"]


def break_the_database(running: Deployed, caller: Api, function: str) -> None:
    """Have the statement fail that stores an execution: the log tells of it with a traceback."""
    with sqlite3.connect(running.data_dir / "service.sqlite") as database:
        database.execute("CREATE TRIGGER broken BEFORE INSERT ON executions"
                         " BEGIN SELECT RAISE(ABORT, 'it-is-broken'); END")
    body = {"function_id": function, "input": INPUT, "description": INPUT, "sync": False}
    reply = requests.post(f"{running.url}/v1/executions", json=body, headers=caller.headers,
                          timeout=30)
    with sqlite3.connect(running.data_dir / "service.sqlite") as database:
        database.execute("DROP TRIGGER broken")
    assert reply.status_code == 500
    assert INPUT not in reply.text and "it-is-broken" not in reply.text
    assert "it-is-broken" in running.log


def seen(secrets: list[str], text: str) -> list[str]:
    """Return the lines with something secret in them."""
    pattern = re.compile("|".join(re.escape(secret) for secret in secrets))
    return [line[max(0, found.start() - 150):found.end() + 50]
            for line in text.splitlines() if (found := pattern.search(line))]


def test_logs_and_audit_events(running: Deployed, secrets: list[str]) -> None:
    assert "DEBUG" in running.log and "audit.http.response" in running.log
    assert seen(secrets, running.log) == []
    for secret in secrets[:2]:  # nor enough of a token to know it by
        assert secret[:20] not in running.log and secret[-20:] not in running.log


def test_a_report_of_all_threads(running: Deployed, secrets: list[str]) -> None:
    before = len(running.log)
    running.send(signal.SIGUSR2)
    assert processes.wait_for(lambda: "token_cache_time" in running.log[before:], 30)
    assert "slave_connection" in running.log[before:]
    assert seen(secrets, running.log[before:]) == []


def test_metrics_and_health(running: Deployed, secrets: list[str]) -> None:
    for path in ("/metrics", "/healthcheck"):
        reply = requests.get(running.url + path, timeout=30)
        assert reply.status_code == 200
        assert seen(secrets, reply.text) == []


def test_traces(running: Deployed, secrets: list[str]) -> None:
    spans = running.data_dir / "spans.jsonl"
    assert processes.wait_for(lambda: spans.exists() and '"worker"' in spans.read_text(), 20)
    assert seen(secrets, spans.read_text()) == []


def test_command_lines_and_environments_of_workers(running: Deployed,
                                                   secrets: list[str]) -> None:
    found = running.below()
    assert running.workers()
    environments = [Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
                    for pid, _ in found if "qinling_exec.runtime" in processes.command(pid)]
    assert environments
    assert seen(secrets, "\n".join(found.values())) == []
    # A worker's environment, which its runs can't read, has its own secret and no other.
    others = [secret for secret in secrets if not any(
        f"QINLING_RUNTIME_SECRET={secret}\0" in one for one in environments)]
    assert seen(others, "\n".join(environments)) == []


