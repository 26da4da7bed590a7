# SPDX-License-Identifier: Apache-2.0
"""The embedded service starts, ends, and starts again."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.running import READY, Running, free_port, run

SLEEPER = ("import time\n\n\ndef main(seconds, **kwargs):\n    print('begun')\n"
           "    time.sleep(seconds)\n    return 'slept'\n")
Start = Callable[..., Running]
Callers = Callable[..., Api]


def test_ready_line_means_that_functions_run(start_service: Start, caller_of: Callers) -> None:
    service = start_service()
    assert service.url == f"http://127.0.0.1:{service.port}"
    assert len(READY.findall(service.log)) == 1
    api = caller_of(service)
    (runtime,) = api.ok("GET", "/v1/runtimes")["runtimes"]
    assert (runtime["name"], runtime["status"]) == ("python3", "available")
    assert output(api.run(api.function())) == "Hello, World"


def test_empty(start_service: Start, caller_of: Callers) -> None:
    service = start_service("data", "--empty")
    assert caller_of(service).ok("GET", "/v1/runtimes") == {"runtimes": []}


def test_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    for option in ("--host", "--port", "--data-dir", "--empty", "--config-file"):
        assert option in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [
    ("--nonsense",), ("--port", "x"), ("--port", "99999"),
    ("--config-file", "/there/is/none.conf"), ("--host", "192.0.2.1"), ("--host", "0.0.0.0"),
    ("--data-dir", "/dev/null/x"),
], ids=" ".join)
def test_bad_arguments(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    defaults = ("--data-dir", str(tmp_path / "data"), "--port", str(free_port()))
    done = run(*defaults, *arguments)
    assert done.returncode != 0
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert "listening" not in done.stdout


def test_port_taken(tmp_path: Path, service: Running) -> None:
    done = run("--data-dir", str(tmp_path / "other"), "--port", str(service.port))
    assert done.returncode != 0
    assert str(service.port) in done.stderr
    assert "taken" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_dir_in_use(service: Running) -> None:
    done = run("--data-dir", str(service.data_dir), "--port", str(free_port()))
    assert done.returncode != 0
    assert str(service.data_dir) in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_lets_runs_end(start_service: Start, caller_of: Callers, number: int) -> None:
    service = start_service()
    api = caller_of(service)
    function = api.function(SLEEPER)
    api.run(function, {"seconds": 0})
    answers: list[dict[str, Any]] = []
    caller = threading.Thread(
        target=lambda: answers.append(caller_of(service).run(function, {"seconds": 2})))
    caller.start()
    processes.wait_for(lambda: api.listed(status="running"), 10)
    below = service.below()
    assert below
    assert service.stop(number) == 0
    caller.join(10)
    assert [output(answer) for answer in answers] == ["slept"]
    assert processes.alive(below) == {}
    assert "Traceback" not in service.log
    again = start_service()
    shown = caller_of(again).show(answers[0]["id"])
    assert shown == answers[0]


def test_started_again_it_has_everything(start_service: Start, caller_of: Callers) -> None:
    first = start_service()
    api = caller_of(first)
    function = api.function(SLEEPER)
    api.ok("POST", f"/v1/functions/{function}/versions", 201, json={})
    api.ok("POST", "/v1/aliases", 201,
           json={"name": "live", "function_id": function, "function_version": 1})
    made = api.run(function, {"seconds": 0})
    paths = ["/v1/runtimes", "/v1/functions", f"/v1/functions/{function}/versions",
             "/v1/aliases", "/v1/executions"]
    before = [_lasting(api.ok("GET", path)) for path in paths]
    package = api.request("GET", f"/v1/functions/{function}?download=true").content
    assert first.stop() == 0
    api = caller_of(start_service())
    assert [_lasting(api.ok("GET", path)) for path in paths] == before
    assert api.log(made["id"]) == b"begun\n"
    assert api.request("GET", f"/v1/functions/{function}?download=true").content == package
    assert api.ok("GET", f"/v1/functions/{function}/workers") == {"workers": []}
    assert output(api.ok("POST", "/v1/executions", 201, json={
        "function_alias": "live", "input": '{"seconds": 0}'})) == "slept"


def _lasting(listed: dict[str, Any]) -> dict[str, Any]:
    """Return a list without when the runtimes' pools were made, which is at each start."""
    for runtime in listed.get("runtimes", []):
        runtime.pop("updated_at")
    return listed


def test_killed_with_runs_going_on(start_service: Start, caller_of: Callers) -> None:
    first = start_service()
    api = caller_of(first)
    function = api.function(SLEEPER, timeout="60")
    going = [api.run(function, {"seconds": 50}, sync=False)["id"] for _ in range(5)]
    processes.wait_for(lambda: api.log(going[0]) == b"begun\n", 10)
    below = first.below()
    first.kill()
    # What it had started goes by itself.
    processes.wait_for(lambda: not processes.alive(below), 10)
    assert processes.alive(below) == {}
    api = caller_of(start_service())
    lease = 15 + 2

    def settled() -> bool:
        rows = [api.show(one) for one in going]
        return all(row["status"] == "error" or row["attempts"] > 1 for row in rows)

    assert processes.wait_for(settled, lease), [api.show(one) for one in going]
    rows = [api.show(one) for one in going]
    for row in rows:
        if row["status"] == "error":
            assert output(row)
            assert row["finished_at"]
    assert output(api.run(api.function(SLEEPER), {"seconds": 0})) == "slept"
    for one in going:
        api.ok("DELETE", f"/v1/executions/{one}", 204)


def test_queued_runs_survive_a_kill(start_service: Start, caller_of: Callers) -> None:
    settings = "[engine]\nfunction_concurrency = 1\nmax_workers_per_function = 1\n"
    first = start_service(settings=settings)
    api = caller_of(first)
    function = api.function(SLEEPER, timeout="60")
    made = [api.run(function, {"seconds": seconds}, sync=False)["id"] for seconds in (4, 0, 0)]
    assert processes.wait_for(lambda: api.show(made[0])["attempts"] == 1, 10)
    first.kill()
    api = caller_of(start_service(settings=settings))
    # The first one was running: it is retried or an error, and then the others run.
    first_row = api.ended(made[0], 30)
    assert first_row["status"] == "error" or first_row["attempts"] == 2
    assert [api.ended(one, 20)["status"] for one in made[1:]] == ["success", "success"]


def test_workers_killed(start_service: Start, caller_of: Callers) -> None:
    service = start_service()
    api = caller_of(service)
    function = api.function(SLEEPER)
    assert output(api.run(function, {"seconds": 0})) == "slept"
    for _ in range(3):
        victims = service.workers()
        assert victims
        processes.kill(victims)
        # Until then one may still take a request, which is then honestly lost.
        assert processes.wait_for(lambda killed=victims: not processes.alive(killed), 10)
        made = api.run(function, {"seconds": 0})
        assert (made["status"], output(made)) == ("success", "slept")


def test_worker_killed_during_a_run(start_service: Start, caller_of: Callers) -> None:
    service = start_service()
    api = caller_of(service)
    function = api.function(SLEEPER, timeout="30")
    made = api.run(function, {"seconds": 25}, sync=False)
    processes.wait_for(lambda: api.log(made["id"]) == b"begun\n", 10)
    processes.kill(service.workers())
    assert processes.wait_for(
        lambda: api.show(made["id"])["status"] == "error" or api.show(made["id"])["attempts"] > 1,
        17), api.show(made["id"])
    api.ok("DELETE", f"/v1/executions/{made['id']}", 204)


def test_cancel_on_a_worker_that_hangs(start_service: Start, caller_of: Callers) -> None:
    """It can't end the run: it is ended itself, long before the function's timeout."""
    service = start_service()
    api = caller_of(service)
    made = api.run(api.function(SLEEPER, timeout="300"), {"seconds": 250}, sync=False)["id"]
    assert processes.wait_for(lambda: api.log(made) == b"begun\n", 10)
    below = service.workers()
    for pid, _ in below:
        # The workers alone: what they fork has their command line until it is something else,
        # and would stay as it is, stopped, when they are gone.
        if processes.parent(pid) == service.process.pid:
            os.kill(pid, signal.SIGSTOP)
    api.ok("POST", f"/v1/executions/{made}/cancel", 202)
    assert processes.wait_for(lambda: api.show(made)["status"] == "cancelled", 60)
    assert service.stop() == 0
    assert processes.wait_for(lambda: not processes.alive(below), 10)


def test_files_are_private(start_service: Start, caller_of: Callers) -> None:
    service = start_service()
    api = caller_of(service)
    api.run(api.function())
    assert stat.S_IMODE(service.data_dir.stat().st_mode) == 0o700
    found = list(service.data_dir.rglob("*"))
    assert any(path.suffix == ".sqlite" for path in found)
    assert any(path.suffix == ".zip" for path in found)
    for path in found:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_umask_does_not_matter(tmp_path: Path, start_service: Start) -> None:
    before = os.umask(0)
    try:
        service = start_service("open")
    finally:
        os.umask(before)
    for path in [service.data_dir, *service.data_dir.rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_no_secret_is_seen_by_other_users(service: Running, api: Api) -> None:
    """A worker's secret is in no command line."""
    api.run(api.function())
    lines = "\n".join(service.below().values())
    assert "qinling_exec.runtime" in lines
    assert "SECRET" not in lines.upper()


def test_interrupt_before_it_is_ready(tmp_path: Path, start_service: Start) -> None:
    service = start_service("early", ready=False)
    processes.wait_for(lambda: (tmp_path / "early" / "lock").exists(), 20)
    service.send(signal.SIGTERM)
    try:
        code = service.wait(20)
    except subprocess.TimeoutExpired:
        service.kill()
        raise
    assert code in (0, -signal.SIGTERM)
    assert "Traceback" not in service.log
