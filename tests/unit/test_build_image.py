# SPDX-License-Identifier: Apache-2.0
"""tools/build-image takes the builder that is there; the builders here only write down."""

from __future__ import annotations

import pathlib
import shlex
import shutil
import subprocess

import pytest

_CHECKOUT = pathlib.Path(__file__).parents[2]
_NEEDED = ("sh", "dirname", "sed", "mktemp", "rm", "cp", "mkdir", "find", "chmod", "ls", "awk")


class Tools:
    """A PATH with little in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._said = folder / "said"
        for name in _NEEDED:
            (folder / name).symlink_to(str(shutil.which(name)))

    def add(self, name: str, works: bool = True) -> str:
        program = self._folder / name
        program.write_text(f"#!/bin/sh\n{'' if works else 'exit 1'}\n"
                           f'[ "$1" = info ] && exit\necho {name} "$@" > {self._said}\n')
        program.chmod(0o755)
        return str(program)

    def build(self, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
        done = subprocess.run(
            [str(_CHECKOUT / "tools" / "build-image"), *arguments], capture_output=True, text=True,
            env={"PATH": str(self._folder), **environment}, timeout=60)
        said = shlex.split(self._said.read_text()) if self._said.exists() else []
        return done.returncode, said, done.stderr


@pytest.fixture
def tools(tmp_path: pathlib.Path) -> Tools:
    return Tools(tmp_path)


@pytest.mark.parametrize(("what", "file"), [
    ("python3", "runtimes/python3/Containerfile"), ("nodejs", "runtimes/nodejs/Containerfile"),
    ("service", "images/service/Containerfile")])
def test_first_builder_that_works(tools: Tools, what: str, file: str) -> None:
    tools.add("docker")
    tools.add("podman")
    assert tools.build(what)[1] == ["podman", "build", "-f", file, "-t",
                                    f"node.local/qinling-exec-{what}:1", "."]
    assert (_CHECKOUT / file).is_file()


def test_client_without_its_daemon_is_passed_over(tools: Tools) -> None:
    tools.add("docker", works=False)
    command = tools.add("mine")
    status, said, error = tools.build("python3", QINLING_EXEC_IMAGE_COMMAND=command)
    assert (status, said[:2]) == (0, ["mine", "node.local/qinling-exec-python3:1"]), error


def test_name_and_base(tools: Tools) -> None:
    tools.add("buildah")
    assert tools.build("python3", "a/b:7", BASE="own:1")[1] == [
        "buildah", "build", "-f", "runtimes/python3/Containerfile", "--build-arg", "BASE=own:1",
        "-t", "a/b:7", "."]


def test_builder_that_is_asked_for(tools: Tools) -> None:
    tools.add("podman")
    tools.add("docker")
    assert tools.build("python3", QINLING_EXEC_IMAGE_BUILDER="docker")[1][0] == "docker"


def test_command_without_a_daemon(tools: Tools) -> None:
    """It starts the same worker as the Containerfile does."""
    command = tools.add("mine")
    _, said, error = tools.build("python3", QINLING_EXEC_IMAGE_BUILDER="command",
                                 QINLING_EXEC_IMAGE_COMMAND=command)
    assert "--python" in said, error
    entry = said[said.index("--entrypoint") + 1:]
    containerfile = (_CHECKOUT / "runtimes" / "python3" / "Containerfile").read_text()
    for word in ("python3", "qinling_exec.runtime", "--listen", "0.0.0.0:9090", "--alone"):
        assert word in " ".join(entry) and f'"{word}"' in containerfile
    assert said[said.index("--user") + 1] == "65532:65532"
    assert "USER 65532:65532" in containerfile


def test_more_options_of_the_command(tools: Tools) -> None:
    _, said, error = tools.build(
        "python3", QINLING_EXEC_IMAGE_BUILDER="command",
        QINLING_EXEC_IMAGE_COMMAND=tools.add("mine"),
        QINLING_EXEC_IMAGE_OPTIONS="--pip requests --env TZ=UTC")
    begin = said.index("--pip")
    assert said[begin:begin + 4] == ["--pip", "requests", "--env", "TZ=UTC"], error


def test_no_builder(tools: Tools) -> None:
    status, _, error = tools.build("python3")
    assert status == 1
    assert "none of podman, buildah, docker and kaniko works here" in error


@pytest.mark.parametrize("arguments", [(), ("other",), ("python3", "a", "b")])
def test_usage(tools: Tools, arguments: tuple[str, ...]) -> None:
    status, _, error = tools.build(*arguments)
    assert status == 2
    assert "tools/build-image python3 [NAME]" in error
