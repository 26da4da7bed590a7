# SPDX-License-Identifier: Apache-2.0
"""Every command of python-qinlingclient's plug-in of ``openstack``, behind a real Keystone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.functional import environments, processes
from tests.functional.client import make_zip
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone

DRIVER = Path(__file__).with_name("command_line.py")
CODE = ("def main(name='World', **kwargs):\n    print('greeting', name)\n"
        "    return 'Hello, ' + name\n")
#: Of parts of Qinling that this service does not have.
ABSENT = ("job ", "webhook ")


class Failed(Exception):
    """The command ended with another status than 0."""


class Shell:
    """The command line of one user."""

    #: What was run, as in ``function execution create``.
    ran: set[str] = set()

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [environments.ready(*environments.CLIENT) / "python", DRIVER], text=True, cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        )

    def close(self) -> None:
        """End its process."""
        self._process.communicate(timeout=20)

    def text(self, command: str, *arguments: str) -> str:
        """Run a command that succeeds; return what it prints."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([*command.split(), *arguments]) + "\n")
        self._process.stdin.flush()
        status, out, err = json.loads(self._process.stdout.readline())
        if status:
            raise Failed(out + err)
        self.ran.add(command)
        return str(out)

    def json(self, command: str, *arguments: str) -> Any:
        """Run a command that succeeds; return the table that it prints."""
        return json.loads(self.text(command, *arguments, "-f", "json"))

    def function(self, name: str, *arguments: str) -> str:
        """Make a function out of a file; return its id."""
        (self._folder / "greeting.py").write_text(CODE)
        runtime = next(row["Id"] for row in self.json("runtime list") if row["Name"] == "python3")
        made = self.json("function create", "--name", name, "--runtime", runtime, "--file",
                         str(self._folder / "greeting.py"), "--entry", "greeting.main", *arguments)
        return str(made["id"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shell")


@pytest.fixture(scope="module")
def member(keystone: Keystone, deployed: Deployed, folder: Path) -> Iterator[Shell]:
    shell = Shell(keystone.environment("mine-member", "mine"), folder)
    yield shell
    shell.close()


@pytest.fixture(scope="module")
def admin(keystone: Keystone, deployed: Deployed, folder: Path) -> Iterator[Shell]:
    shell = Shell(keystone.environment("mine-admin", "mine"), folder)
    yield shell
    shell.close()


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["Id"] for row in rows]


def test_the_program_itself(keystone: Keystone, deployed: Deployed, folder: Path) -> None:
    """Once as a user starts it, with all that it imports by itself."""
    program = environments.ready(*environments.CLIENT) / "openstack"
    done = subprocess.run(
        [program, "runtime", "list", "-f", "value", "-c", "Name"], capture_output=True, text=True,
        check=False, timeout=120, cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore",
             **keystone.environment("mine-reader", "mine")},
    )
    assert (done.returncode, "python3" in done.stdout) == (0, True), done.stderr


def test_runtimes(admin: Shell, member: Shell) -> None:
    made = admin.json("runtime create", "some/image", "--name", "own", "--description", "d",
                      "--private", "--untrusted")
    assert (made["name"], made["image"], made["is_public"], made["trusted"]) == (
        "own", "some/image", False, False)
    assert processes.wait_for(
        lambda: admin.json("runtime show", made["id"])["status"] == "available", 30)
    assert admin.json("runtime pool show", made["id"])["name"] == made["id"]
    assert ids(admin.json("runtime list", "--filter", "name=own")) == [made["id"]] or (
        made["id"] in ids(admin.json("runtime list")))
    with pytest.raises(Failed, match="Operation not allowed"):
        member.json("runtime create", "some/image")
    with pytest.raises(Failed, match="Operation not allowed"):
        member.json("runtime pool show", made["id"])
    admin.text("runtime delete", made["id"])
    with pytest.raises(Failed, match="Runtime not found"):
        admin.json("runtime show", made["id"])


def test_functions(member: Shell, folder: Path) -> None:
    function = member.function("first", "--cpu", "200", "--memory-size", "67108864",
                               "--timeout", "10")
    shown = member.json("function show", "first")
    assert (shown["id"], shown["cpu"], shown["memory_size"], shown["timeout"]) == (
        function, 200, 67108864, 10)
    assert function in ids(member.json("function list"))
    package = folder / "package.zip"
    package.write_bytes(make_zip({"main.py": "def main(**kwargs):\n    return 2\n"}))
    changed = member.json("function update", "first", "--name", "second", "--package",
                          str(package), "--entry", "main.main", "--description", "d",
                          "--timeout", "20")
    assert (changed["name"], changed["entry"], changed["timeout"]) == ("second", "main.main", 20)
    assert json.loads(member.json("function execution create", "--function", "second")["result"])[
        "output"] == 2
    (folder / "main.py").write_text("def main(**kwargs):\n    return 3\n")
    member.json("function update", function, "--file", str(folder / "main.py"))
    assert json.loads(member.json("function execution create", "--function", function)["result"])[
        "output"] == 3
    member.text("function download", function, "--output", "got.zip")
    assert (folder / "got.zip").read_bytes()[:2] == b"PK"
    member.text("function delete", function)
    with pytest.raises(Failed, match=r"Function not found \[id="):
        member.json("function show", function)


def test_functions_from_a_package_and_an_image(member: Shell, folder: Path) -> None:
    package = folder / "own.zip"
    package.write_bytes(make_zip({"own.py": CODE}))
    runtime = next(row["Id"] for row in member.json("runtime list") if row["Name"] == "python3")
    made = member.json("function create", "--name", "packed", "--runtime", runtime,
                       "--package", str(package), "--entry", "own.main")
    run = member.json("function execution create", "--function", "packed", "--input",
                      '{"name": "you"}')
    assert json.loads(run["result"])["output"] == "Hello, you"
    image = member.json("function create", "--name", "image", "--image", "some/image")
    member.text("function delete", made["id"], image["id"])


def test_workers(admin: Shell, member: Shell) -> None:
    function = admin.function("scaled")
    admin.text("function scaleup", function, "--count", "2")
    assert processes.wait_for(
        lambda: len(admin.json("function worker list", function)) == 2, 30)
    admin.text("function scaledown", function)
    assert processes.wait_for(
        lambda: len(admin.json("function worker list", function)) == 1, 30)
    assert "has been accepted" in admin.text("function detach", function)
    with pytest.raises(Failed, match="Operation not allowed"):
        member.text("function scaleup", function)


def test_versions(admin: Shell, member: Shell) -> None:
    function = member.function("versioned")
    made = member.json("function version create", "versioned", "--description", "d")
    assert (made["function_id"], made["version_number"], made["description"]) == (function, 1, "d")
    assert member.json("function version show", function, "1")["id"] == made["id"]
    assert ids(member.json("function version list", function)) == [made["id"]]
    run = member.json("function execution create", "--function", function, "--function-version",
                      "1")
    assert (run["status"], run["function_version"]) == ("success", 1)
    assert "has been accepted" in admin.text("function version detach", function, "1")
    member.text("function version delete", function, "1")
    assert member.json("function version list", function) == []


def test_aliases(member: Shell) -> None:
    function = member.function("aliased")
    member.json("function version create", function)
    made = member.json("function alias create", "live", "--function", "aliased",
                       "--function-version", "1", "--description", "d")
    assert (made["function_id"], made["function_version"]) == (function, 1)
    assert member.json("function alias show", "live")["name"] == "live"
    assert "live" in [row["Name"] for row in member.json("function alias list")]
    run = member.json("function execution create", "--function-alias", "live")
    assert (run["status"], run["function_alias"]) == ("success", "live")
    changed = member.json("function alias update", "live", "--function-version", "0",
                          "--description", "e")
    assert (changed["function_version"], changed["description"]) == (0, "e")
    member.text("function alias delete", "live")
    with pytest.raises(Failed, match="FunctionAlias not found"):
        member.json("function alias show", "live")


def test_executions(member: Shell, admin: Shell) -> None:
    function = member.function("run")
    made = member.json("function execution create", "--function", "run", "--input",
                       '{"name": "Ada"}')
    assert (made["status"], made["sync"]) == ("success", True)
    assert member.json("function execution show", made["id"])["result"] == made["result"]
    later = member.json("function execution create", "--function", function, "--async")
    assert (later["status"], later["sync"]) == ("running", False)
    assert processes.wait_for(lambda: member.json(
        "function execution show", later["id"])["status"] == "success", 30)
    mine = ("--filter", f"function_id={function}")
    assert ids(member.json("function execution list", *mine)) == [made["id"], later["id"]]
    assert member.json("function execution list", *mine, "--filter", "status=failed") == []
    with pytest.raises(Failed, match="Operation not allowed"):
        member.json("function execution list", "--filter", "all_projects=true")
    assert made["id"] in ids(admin.json(
        "function execution list", *mine, "--filter", "all_projects=true"))
    member.text("function execution delete", "--execution", made["id"])
    member.text("function execution delete", "--function", function)
    assert member.json("function execution list", *mine) == []


def test_log(member: Shell) -> None:
    made = member.json("function execution create", "--function", member.function("printing"))
    assert member.text("function execution log show", made["id"]) == "greeting World\n"


def test_another_project_sees_nothing(member: Shell, keystone: Keystone, folder: Path) -> None:
    function = member.function("private")
    other = Shell(keystone.environment("other-member", "other"), folder)
    try:
        # Other tests may have made functions in that project.
        assert function not in [item["Id"] for item in other.json("function list")]
        with pytest.raises(Failed, match="Function not found"):
            other.json("function show", function)
        with pytest.raises(Failed, match="Function not found"):
            other.json("function execution create", "--function", function)
    finally:
        other.close()


def test_every_command_was_run(member: Shell) -> None:
    """Those of the plug-in, but for jobs and webhooks; needs the tests above."""
    site = next((environments.ready(*environments.CLIENT).parent / "lib").glob(
        "python3*/site-packages"))
    (found,) = metadata.distributions(name="python-qinlingclient", path=[str(site)])
    commands = {entry.name.replace("_", " ") for entry in found.entry_points
                if entry.group == "openstack.function_engine.v1"}
    wanted = {name for name in commands if not name.startswith(ABSENT)}
    assert wanted - Shell.ran == set()
    for name in ("job list", "webhook list"):
        with pytest.raises(Failed, match="There is nothing at this path"):
            member.text(name)
