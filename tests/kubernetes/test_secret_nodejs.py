# SPDX-License-Identifier: Apache-2.0
"""The secret of the Node.js image's worker in a real pod is out of reach of its functions.

Node can't make the system calls that close a process: what holds here is how the image has it.
"""

from __future__ import annotations

import json

import pytest

from tests.kubernetes import hostile, pods
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hostile import output_of as run
from tests.unit.runtime.client import SECRET, Client

pytestmark = pytest.mark.long

#: Runs its input as a program.
_PROGRAM = """
const fs = require('node:fs');
exports.main = async ({ program }) => eval(`(async () => { ${program} })()`);
"""
#: Returns the TCP ports that somebody in the pod listens on: state 0A.
_LISTENING = """
        return ['/proc/net/tcp', '/proc/net/tcp6']
          .flatMap((path) => fs.readFileSync(path, 'latin1').split('\\n').slice(1))
          .map((line) => line.trim().split(/\\s+/)).filter((words) => words[3] === '0A')
          .map((words) => parseInt(words[1].split(':')[1], 16));
        """


@pytest.fixture(scope="module")
def worker(cluster: Cluster, namespace: str, nodejs_image: str) -> Client:
    """A worker that runs any program, in a pod."""
    client = pods.start(cluster, namespace, pods.describe("nodejs", nodejs_image))
    client.specialize({"main.js": _PROGRAM})
    return client


def test_worker_is_as_confined_as_it_is_meant_to_be(worker: Client) -> None:
    """Else the tests below would show nothing: a run has the same user, and sees the server."""
    status = str(run(worker, "return fs.readFileSync('/proc/1/status', 'latin1')"))
    hostile.must_be_confined(status)
    assert run(worker, "return [process.getuid(), process.ppid,"
                       " fs.readFileSync('/proc/1/cmdline', 'latin1')]") == [
        65532, 1, "node\0/opt/qinling/main.js\0--listen\x000.0.0.0:9090\0--alone\0"]
    assert worker.ping()["pid"] == 1


@pytest.mark.parametrize("path", hostile.OF_A_SERVER)
def test_proc_of_the_server_is_closed(worker: Client, path: str) -> None:
    assert run(worker, f"""
        const closed = ['EACCES', 'EPERM', 'ENOTDIR', 'ENOENT', 'EISDIR', 'EINVAL'];
        const path = '/proc/' + process.ppid + '/{path}';
        const found = [];
        for (const look of [fs.readdirSync, fs.readlinkSync, (name) => fs.openSync(name, 'r'),
                            (name) => fs.openSync(name, 'r+')]) {{
          try {{
            found.push(String(look(path)));
          }} catch (error) {{
            if (!closed.includes(error.code)) found.push(String(error));
          }}
        }}
        return found;
        """) == []


def test_secret_is_in_no_process_and_no_file_that_can_be_read(worker: Client) -> None:
    """All that a run may read of processes, all files, and what it was started with."""
    found = run(worker, f"""
        const wanted = [...{json.dumps(SECRET[::-1])}].reverse().join('');
        const found = [];
        let searched = 0;
        const search = (path) => {{
          try {{
            if (fs.readFileSync(path).includes(wanted)) found.push(path);
            searched += 1;
          }} catch {{ /* closed */ }}
        }};
        for (const pid of fs.readdirSync('/proc').filter(Number)) {{
          for (const name of ['environ', 'cmdline', 'comm']) search(`/proc/${{pid}}/${{name}}`);
        }}
        for (const top of {list(hostile.SEARCHED)}) {{
          const walk = (folder) => {{
            let entries = [];
            try {{
              entries = fs.readdirSync(folder, {{ withFileTypes: true }});
            }} catch {{ /* closed, or not there */ }}
            for (const entry of entries) {{
              if (entry.isDirectory()) walk(`${{folder}}/${{entry.name}}`);
              else if (entry.isFile()) search(`${{folder}}/${{entry.name}}`);
            }}
          }};
          walk(top);
        }}
        const own = JSON.stringify([process.argv, process.execArgv, process.env]);
        if (own.includes(wanted)) found.push('its own');
        if (searched < 10) found.push(`only ${{searched}} searched`);
        return found;
        """)
    assert found == []


@pytest.mark.parametrize("number", ["SIGUSR1", "SIGUSR2", "SIGKILL", "SIGSTOP", "SIGHUP",
                                    "SIGQUIT", "SIGSEGV", "SIGCHLD"])
def test_server_outlives_signals_of_its_runs(worker: Client, number: str) -> None:
    """And listens where it did: a debugger, which SIGUSR1 starts, could be told to tell all."""
    run(worker, f"""
        process.kill(1, '{number}');
        await new Promise((ended) => setTimeout(ended, 500));
        """)
    assert run(worker, _LISTENING) == [9090]


def test_a_run_can_not_debug_another(worker: Client) -> None:
    thread, peaceful = worker.background({"program": """
        await new Promise((ended) => setTimeout(ended, 3000));
        return 'went on';
        """}, timeout=20)
    assert run(worker, """
        await new Promise((ended) => setTimeout(ended, 1000)); // the other one has begun by then
        const others = fs.readdirSync('/proc').filter((pid) => /^\\d+$/.test(pid)
          && ![1, process.pid].includes(Number(pid)));
        for (const pid of others) process.kill(Number(pid), 'SIGUSR1');
        await new Promise((ended) => setTimeout(ended, 500));
        if (!others.length) throw new Error('there is no other one');
        """ + _LISTENING) == [9090]
    thread.join()
    assert peaceful["output"] == "went on"


def test_own_door_is_closed_without_the_secret(worker: Client) -> None:
    """A run may call its own worker; only ping is answered."""
    assert run(worker, """
        const asked = [['GET', '/ping'], ['POST', '/execute'], ['POST', '/specialize'],
                       ['POST', '/cancel/x']];
        return Promise.all(asked.map(async ([method, path]) => (
          await fetch(`http://127.0.0.1:9090${path}`,
                      { method, headers: { Authorization: 'Bearer guess' } })).status));
        """) == [200, 401, 401, 401]


def test_no_token_and_no_service_in_the_environment(worker: Client) -> None:
    assert run(worker, f"""
        return [Object.keys(process.env).sort(),
                {list(hostile.TOKENS)}.filter((path) => fs.existsSync(path))];
        """) == [["HOME", "LANG", "PATH", "TMPDIR"], []]


def test_root_is_read_only(worker: Client) -> None:
    assert run(worker, f"""
        return {list(hostile.CLOSED)}.filter((path) => {{
          try {{
            fs.writeFileSync(path, '');
            return true;
          }} catch {{
            return false;
          }}
        }});
        """) == []
