# SPDX-License-Identifier: Apache-2.0
"""The README's tour, run as it is written."""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import subprocess
import textwrap
from collections.abc import Callable, Iterator

from tests.functional.running import Running

README = pathlib.Path(__file__).parents[2] / "README.rst"
ADDRESS = "127.0.0.1:7070"


def blocks(text: str) -> Iterator[str]:
    """Yield the bash blocks of the section called A tour."""
    tour = re.search(r"^A tour\n=+\n(.*?)^[^\n]+\n=+$", text, re.DOTALL | re.MULTILINE)
    assert tour is not None
    for block in re.finditer(r"^\.\. code-block:: bash\n\n((?:(?: {4}.*)?\n)+)", tour[1], re.M):
        yield textwrap.dedent(block[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def run(script: str, directory: pathlib.Path) -> str:
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=directory, capture_output=True, text=True,
        timeout=120, env={**os.environ, "TMPDIR": str(directory), "no_proxy": "127.0.0.1"},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def test_tour(start_service: Callable[..., Running], tmp_path: pathlib.Path) -> None:
    commands = list(blocks(README.read_text(encoding="utf-8")))
    assert len(commands) == 8
    # Another program may have the port on the machine of whoever runs the tests.
    if is_free(7070):
        running = start_service(port=7070)
        script = "\n".join(commands)
    else:
        running = start_service()
        script = "\n".join(commands).replace(ADDRESS, running.url.removeprefix("http://"))
    assert ADDRESS in "".join(commands)

    lines = run(script, tmp_path).splitlines()

    runtimes, function, first, second, second_later, first_later, log, *lists = lines[:-2]
    assert json.loads(runtimes)["runtimes"][0]["name"] == "python3"
    assert json.loads(function)["name"] == "hello"
    assert json.loads(json.loads(first)["result"])["output"] == "Hello, Qinling"
    assert json.loads(second)["status"] == "running"
    assert json.loads(second_later)["status"] == "success"
    assert json.loads(json.loads(second_later)["result"])["output"] == "Hello, World"
    assert json.loads(first_later)["id"] == json.loads(first)["id"]
    assert log == "greeting Qinling"
    assert [len(json.loads(line)["executions"]) for line in lists] == [2, 1]
    assert lines[-2:] == ["204", "204"]
