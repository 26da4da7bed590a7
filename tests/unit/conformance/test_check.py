# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-manage runtime check, of good workers and of bad ones."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import pytest

import qinling_exec
from qinling_exec.conformance.checks import CHECKS

_TREE = pathlib.Path(qinling_exec.__file__).parents[1]
_NODE = pytest.mark.skipif(not shutil.which("node"),
                           reason="THERE IS NO NODE for the worker of Node.js")
_NUMBER = len(CHECKS) + 1
#: Of them, those that are not carried out for a command.
_SKIPPED = [check.sentence for check in CHECKS if check.of_image]


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qinling_exec.cmd.manage", "runtime", "check", *arguments],
        capture_output=True, text=True, timeout=300)


def python(source: str) -> str:
    return shlex.join([sys.executable, "-c", textwrap.dedent(source), "{port}"])


def good(done: subprocess.CompletedProcess[str]) -> None:
    """All that is checked of a command holds."""
    lines = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert [line.partition(":")[0] for line in lines] == [
        f"skipped {sentence}" for sentence in _SKIPPED]
    assert len(done.stdout.splitlines()) == _NUMBER
    assert (done.returncode, done.stderr) == (0, "")


def test_python_runtime() -> None:
    done = check("--command", f"env PYTHONPATH={_TREE} {sys.executable} -m qinling_exec.runtime"
                              " --listen 127.0.0.1:{port}")
    good(done)


@_NODE
def test_nodejs_runtime() -> None:
    main = _TREE / "runtimes/nodejs/worker/main.js"
    good(check("--language", "nodejs", "--command", f"node {main} --listen 127.0.0.1:{{port}}"))


@pytest.mark.parametrize("program", [
    pytest.param([sys.executable, "-c", "import json, main;"
                                        " print(json.dumps(main.main(do='ancestors')))"],
                 id="python"),
    pytest.param(["node", "-e", "require('./main').main({do: 'ancestors'})"
                                ".then((found) => console.log(JSON.stringify(found)))"],
                 marks=_NODE, id="nodejs"),
])
def test_what_the_functions_find_above_them(program: list[str]) -> None:
    """What is open to them they do open: a check that they answer means something."""
    found = json.loads(subprocess.run(
        program, cwd=_TREE / "qinling_exec/conformance/functions", capture_output=True, text=True,
        check=True, timeout=60).stdout)
    assert found[f"{os.getpid()}/environ"] is True
    assert f"{os.getpid()}/mem" in found


def test_worker_that_says_yes_to_everything() -> None:
    """No check holds for something that answers, and answers the same to everything."""
    done = check("--command", python("""
        import http.server, json, signal, sys
        class Yes(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = b'{"status": "generic", "running": 0}'
                self.send_response(200)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            def do_POST(self):
                self.rfile.read(int(self.headers.get('Content-Length', 0)))
                self.do_GET()
            def log_message(self, *_):
                pass
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Yes).serve_forever()
        """))
    failed = _NUMBER - len(_SKIPPED)
    assert len(re.findall("^FAILED", done.stdout, re.MULTILINE)) == failed, done.stdout
    assert done.returncode == 1
    assert done.stderr == (f"qinling-exec-manage: {failed} of the checks do not hold.\n")


#: What is spoilt in the Python worker, and the words of the check that finds it.
SPOILT = {
    "secret.Secret.check = lambda self, header: None": "brings the secret",
    "server.Server._cancel = lambda self, id: asyncio.sleep(0)": "/cancel ends a run",
    "runs._GATHER_SECONDS = 5.0": "what a function prints is streamed",
}


@pytest.mark.parametrize("change", SPOILT)
def test_worker_that_was_spoilt(change: str) -> None:
    source = f"""
        import asyncio, sys
        sys.path.insert(0, {str(_TREE)!r})
        from qinling_exec.runtime import __main__, runs, secret, server
        {change}
        sys.argv[1:] = ['--listen', '127.0.0.1:' + sys.argv[1]]
        __main__.main()
        """
    done = check("--command", python(source))
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert any(SPOILT[change] in line for line in failed), done.stdout
    assert any(line.startswith("ok ") for line in done.stdout.splitlines())


@pytest.mark.parametrize(("arguments", "text"), [
    (["--command", "/nowhere/worker"], "/nowhere/worker can't be started"),
    (["--command", "true", "--package", "/nowhere.zip"], "/nowhere.zip: No such file"),
    (["--command", "sh -c 'echo no port >&2; exit 3'"], "it has ended with status 3: no port"),
])
def test_nothing_to_check(arguments: list[str], text: str) -> None:
    done = check(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr


def test_it_is_told_what_is_wanted() -> None:
    done = check()
    assert done.returncode == 2
    assert "one of the arguments image --command is required" in done.stderr
