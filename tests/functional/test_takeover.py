# SPDX-License-Identifier: Apache-2.0
"""``qinling-exec-manage db import``: a Qinling moves in, and its users find what they had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests import databases
from tests.functional import processes
from tests.functional.former import CODE, MADE, Former
from tests.functional.running import Running

Servers = Callable[[str], databases.Server]
GONE = "00000000-0000-4000-8000-00000000dead"


@pytest.fixture(params=["postgresql", "mariadb"])
def former(request: pytest.FixtureRequest, tmp_path: Path, database_servers: Servers) -> Former:
    if request.param not in databases.chosen():
        pytest.skip(f"{request.param} is not wanted here")
    return Former(tmp_path, database_servers(request.param).new_schema())


@pytest.fixture
def manage(tmp_path: Path) -> Callable[..., str]:
    """Run qinling-exec-manage on the database of the embedded service below ``data``."""
    data = tmp_path / "data"
    data.mkdir()
    config = tmp_path / "manage.conf"
    config.write_text(f"[database]\nconnection = sqlite:///{data}/qinling_exec.sqlite\n"
                      f"[packages]\ndirectory = {data}/packages\n")

    def run(*words: str, fails: bool = False, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "qinling_exec.cmd.manage", "--config-file", config, *words],
            capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, **environment})
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("db", "sync")
    return run


def test_everything_that_can_come_comes(former: Former, manage: Callable[..., str],
                                        start_service: Callable[..., Running]) -> None:
    runtime = former.add("runtimes", 1, name="python3", image="python3", status="available",
                         is_public=True, trusted=True)
    function = former.function(2, runtime, description="d", latest_version=1)
    former.package("ours", function, 1, code=CODE.replace("Hello", "Bye"))
    former.add("function_versions", 3, function_id=function, version_number=1, count=0)
    former.add("function_aliases", 4, name="live", function_id=function, function_version=1)
    image = former.function(5, None, code='{"source": "image", "image": "i"}')
    swift = former.function(6, runtime, code='{"source": "swift", "swift": {}}')
    lost = former.function(7, runtime, code=json.dumps({"source": "package", "md5sum": "0" * 32}))
    ended = {"function_id": function, "function_version": 0, "status": "success", "sync": True,
             "updated_at": MADE}
    first = former.add("executions", 8, **ended, input='{"name": "Ada"}', logs="printed ü\n",
                       result='{"duration": 0.1, "output": "Hello, Ada"}')
    second = former.add("executions", 9, **ended, input='{"__function_input": "some text"}')
    running = former.add("executions", 10, **{**ended, "status": "running", "updated_at": None})
    theirs = former.add("executions", 11, project="theirs", **{**ended, "function_id": GONE})
    before = former.everything()

    command = ("db", "import", "--packages", str(former.packages), "--from", former.url)
    assert "9 would come over, 0 were there already, 2 stay behind." in manage(
        *command, "--dry-run")
    told = manage(*command)
    assert "9 came over, 0 were there already, 2 stay behind." in told
    assert f"left behind: functions {swift}: Functions of the source 'swift'" in told
    assert f"left behind: functions {lost}: Its package ours/{lost}_{'0' * 32}.zip" in told
    assert "0 came over, 9 were there already, 2 stay behind." in manage(*command)
    assert former.everything() == before

    service = start_service("data", "--empty")
    api = service.api(project="ours")
    assert processes.wait_for(lambda: api.ok(
        "GET", f"/v1/runtimes/{runtime}")["status"] == "available", 30)
    shown = api.ok("GET", f"/v1/functions/{function}")
    assert (shown["description"], shown["count"], shown["latest_version"]) == ("d", 3, 1)
    assert shown["created_at"].startswith("2021-05-06")
    assert api.ok("GET", f"/v1/functions/{image}")["code"] == {"source": "image", "image": "i"}
    made = api.show(first)
    assert (made["status"], json.loads(made["input"]), json.loads(made["result"])) == (
        "success", {"name": "Ada"}, {"duration": 0.1, "output": "Hello, Ada"})
    assert api.log(first).decode() == "printed ü\n"
    assert (api.show(second)["input"], api.show(second)["result"]) == ("some text", None)
    unknown = api.show(running)
    assert unknown["status"] == "error"
    assert "brought over" in json.loads(unknown["result"])["output"]
    assert theirs not in api.request("GET", "/v1/executions").text
    output = [json.loads(api.ok("POST", "/v1/executions", 201, json=body)["result"])["output"]
              for body in ({"function_id": function}, {"function_alias": "live"})]
    assert output == ["Hello, World", "Bye, World"]
    api.close()


def test_interrupted_it_goes_on(former: Former, manage: Callable[..., str],
                                tmp_path: Path) -> None:
    """What is missing comes; what was changed here meanwhile stays as it is."""
    former.add_executions(700, function_id=GONE, status="failed", sync=False)
    command = ("db", "import", "--from", former.url)
    assert "700 came over" in manage(*command)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/data/qinling_exec.sqlite")
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM executions WHERE id > '00000600'")
        connection.exec_driver_sql("UPDATE executions SET description = 'mine'")
    engine.dispose()
    assert "100 came over, 600 were there already, 0 stay behind." in manage(*command)


def test_without_packages_the_rest_comes(former: Former, manage: Callable[..., str]) -> None:
    function = former.function(1, None)
    former.add("executions", 2, function_id=function, status="success", sync=True)
    told = manage("db", "import", QINLING_EXEC_IMPORT_FROM=former.url)
    assert "1 came over, 0 were there already, 1 stay behind." in told
    assert "name Qinling's folder with --packages" in told


@pytest.mark.parametrize(("url", "said"), [
    ("nonsense", "can't be read"), ("postgresql://u:hidden@127.0.0.1:1/x", "can't be read"),
    ("postgresql://u:a@b:hidden@127.0.0.1/x", "%40 for @"),
    ("sqlite:////nonexistent/x.sqlite", "can't be read"), ("sqlite://", "no database of Qinling"),
])
def test_a_source_that_is_none(manage: Callable[..., str], url: str, said: str) -> None:
    told = manage("db", "import", "--from", url, fails=True)
    assert said in told
    assert "hidden" not in told
    assert "Traceback" not in told
