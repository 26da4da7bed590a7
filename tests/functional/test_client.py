# SPDX-License-Identifier: Apache-2.0
"""python-qinlingclient 5.1.1, as it was published, works with this service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional import environments, processes
from tests.functional.client import make_zip
from tests.functional.running import Running

DRIVER = Path(__file__).with_name("known_client.py")


class Refused(Exception):
    """The client raised."""


class Client:
    """The published client, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, manager: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of one of its managers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([manager, method, args, kwargs]) + "\n")
        self._process.stdin.flush()
        outcome = json.loads(self._process.stdout.readline())
        if "error" in outcome:
            raise Refused(f"{outcome['error']}: {outcome['text']}")
        return outcome["value"]


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of an environment that has the client."""
    return environments.ready(*environments.CLIENT) / "python"


@pytest.fixture(scope="module")
def client(python: Path, service: Running) -> Iterator[Client]:
    command = [str(python), str(DRIVER), service.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        yield Client(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.fixture
def runtime(client: Client) -> str:
    (found,) = [item for item in client.call("runtimes", "list") if item["name"] == "python3"]
    return str(found["id"])


@pytest.fixture
def package(tmp_path: Path) -> dict[str, str]:
    """A file as the driver of the client opens it."""
    code = ("def main(name='World', **kwargs):\n    print('for', name)\n"
            "    return 'Hello, ' + name\n")
    path = tmp_path / "hello.zip"
    path.write_bytes(make_zip({"main.py": code}))
    return {"file": str(path)}


@pytest.fixture
def function(client: Client, runtime: str, package: dict[str, str]) -> str:
    made = client.call("functions", "create", {"source": "package"}, runtime=runtime,
                       package=package, name="hello", entry="main.main")
    return str(made["id"])


def test_runtimes(client: Client) -> None:
    made = client.call("runtimes", "create", "some/image", name="mine", description="d",
                       is_public=False, trusted=False)
    assert (made["name"], made["image"], made["is_public"], made["trusted"]) == (
        "mine", "some/image", False, False)
    assert processes.wait_for(
        lambda: client.call("runtimes", "get", made["id"])["status"] == "available", 20)
    pool = client.call("runtimes", "get_pool", made["id"])
    assert set(pool["capacity"]) == {"total", "available"}
    assert client.call("runtimes", "find", name="mine")["id"] == made["id"]
    client.call("runtimes", "delete", made["id"])
    with pytest.raises(Refused, match="HTTPNotFound"):
        client.call("runtimes", "get", made["id"])


def test_functions(client: Client, runtime: str, package: dict[str, str], tmp_path: Path) -> None:
    made = client.call("functions", "create", {"source": "package"}, runtime=runtime,
                       package=package, name="hello", entry="main.main", description=None,
                       cpu=200, memory_size=67108864, timeout=10)
    assert (made["cpu"], made["memory_size"], made["timeout"]) == (200, 67108864, 10)
    assert client.call("functions", "get", made["id"]) == made
    # The other tests of this service have made more functions than one page holds.
    assert client.call("functions", "list")
    for more in ({}, {"all_projects": True}):
        assert made["id"] in [item["id"] for item in client.call(
            "functions", "list", limit=1000, **more)]
    got = client.call("functions", "get", made["id"], download=True)
    assert (got["status"], got["type"], got["beginning"]) == (200, "application/zip", "PK\x03\x04")
    renamed = client.call("functions", "update", made["id"], name="new", timeout=20)
    assert (renamed["name"], renamed["timeout"]) == ("new", 20)
    other = tmp_path / "other.zip"
    other.write_bytes(make_zip({"main.py": "def main(**kwargs):\n    return 2\n"}))
    # What `function update --file` sends: the source as a field, no code.
    changed = client.call("functions", "update", made["id"], code={"source": "package"},
                          package={"file": str(other)})
    assert changed["code"]["md5sum"] != made["code"]["md5sum"]
    run = client.call("function_executions", "create", made["id"])
    assert json.loads(run["result"])["output"] == 2
    client.call("functions", "delete", made["id"])
    with pytest.raises(Refused, match=r"Function not found \[id="):
        client.call("functions", "get", made["id"])


def test_image_function(client: Client) -> None:
    made = client.call("functions", "create", {"source": "image", "image": "user/img"},
                       name="image")
    assert made["code"] == {"source": "image", "image": "user/img"}
    with pytest.raises(Refused, match="Kubernetes"):
        client.call("function_executions", "create", made["id"])
    client.call("functions", "delete", made["id"])


def test_workers_and_scaling(client: Client, function: str) -> None:
    assert client.call("function_workers", "list", function) == []
    client.call("function_executions", "create", function)
    (worker,) = client.call("function_workers", "list", function)
    assert (worker["function_id"], worker["function_version"]) == (function, 0)

    def count() -> int:
        return len(client.call("function_workers", "list", function))

    assert client.call("functions", "scaleup", function, count=2)[0]["status"] == 202
    assert processes.wait_for(lambda: count() == 3, 20)
    assert client.call("functions", "scaledown", function, count=1)[0]["status"] == 202
    assert processes.wait_for(lambda: count() == 2, 20)
    assert client.call("functions", "detach", function)["status"] == 202
    assert processes.wait_for(lambda: count() == 0, 20)


def test_versions(client: Client, function: str) -> None:
    made = client.call("function_versions", "create", function, description="first")
    assert (made["version_number"], made["description"]) == (1, "first")
    with pytest.raises(Refused, match="not changed"):
        client.call("function_versions", "create", function)
    assert client.call("function_versions", "get", function, 1) == made
    assert client.call("function_versions", "list", function) == [made]
    run = client.call("function_executions", "create", function, function_version=1)
    assert (run["status"], run["function_version"]) == ("success", 1)
    assert client.call("function_versions", "detach", function, 1)["status"] == 202
    client.call("function_versions", "delete", function, 1)
    assert client.call("function_versions", "list", function) == []


def test_aliases(client: Client, function: str) -> None:
    client.call("function_versions", "create", function)
    made = client.call("function_aliases", "create", "live", function, function_version=1,
                       description="d")
    assert client.call("function_aliases", "get", "live") == made
    assert made in client.call("function_aliases", "list")
    run = client.call("function_executions", "create", function_alias="live",
                      input='{"name": "alias"}')
    assert json.loads(run["result"])["output"] == "Hello, alias"
    # The client sends what is not to change as null.
    changed = client.call("function_aliases", "update", "live", function_version=0)
    assert (changed["function_version"], changed["function_id"], changed["description"]) == (
        0, function, "d")
    client.call("function_aliases", "delete", "live")
    with pytest.raises(Refused, match=r"FunctionAlias not found \[name=live\]"):
        client.call("function_aliases", "get", "live")


def test_executions(client: Client, function: str) -> None:
    made = client.call("function_executions", "create", function, input='{"name": "client"}')
    assert made["status"] == "success"
    assert json.loads(made["result"])["output"] == "Hello, client"
    assert client.call("function_executions", "get", made["id"]) == made
    later = client.call("function_executions", "create", function, sync=False)
    assert later["status"] == "running"
    assert processes.wait_for(lambda: client.call(
        "function_executions", "get", later["id"])["status"] == "success", 20)
    listed = client.call("function_executions", "list", function_id=function)
    assert [item["id"] for item in listed] == [made["id"], later["id"]]
    assert client.call("function_executions", "list", function_id=function, status="failed") == []
    assert client.call("function_executions", "list",
                       status=f"in:success,failed&function_id={function}") == listed
    client.call("function_executions", "delete", made["id"])
    with pytest.raises(Refused, match=r"Execution not found \[id="):
        client.call("function_executions", "get", made["id"])


def test_log(client: Client, function: str) -> None:
    """The client reads a body that is no JSON as none; it does not fail of it."""
    made = client.call("function_executions", "create", function)
    assert client.call("function_executions", "get_log", made["id"]) is None


def test_what_the_service_says_reaches_the_user(client: Client, function: str) -> None:
    with pytest.raises(Refused, match="An integer is required"):
        client.call("functions", "update", function, timeout="x")
    with pytest.raises(Refused, match="Either function_alias or function_id"):
        client.call("function_executions", "create")
