# SPDX-License-Identifier: Apache-2.0
"""POST /v1/executions/{id}/cancel, and DELETE of what runs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional import processes
from tests.functional.client import Api, output, result
from tests.functional.given import Target
from tests.functional.ledger import HOST, MODULE, Ledger
from tests.functional.running import Running

pytestmark = pytest.mark.every_database

#: One run at a time: what comes after it waits.
ONE = "[engine]\nfunction_concurrency = 1\nmax_workers_per_function = 1\n"
#: Processes that do not want to end: a child that ignores SIGTERM, and a daemon.
STUBBORN = '''
import os
import signal
import socket
import subprocess
import sys
import time

CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execv(sys.executable, [sys.executable, "-c", CHILD + " # MARK"])
        os._exit(0)
    os.wait()


def main(mark, port, **kwargs):
    global CHILD
    CHILD += "  # " + mark
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", CHILD])
    daemon()
    time.sleep(0.3)
    print("printed before", flush=True)
    with socket.create_connection(("HOST", port)) as ledger:
        ledger.sendall(b"wait run\\n")
        time.sleep(600)
'''.replace("HOST", HOST)


@pytest.fixture(scope="module")
def waiter(session_api: Api) -> str:
    """A function that waits at the ledger."""
    return session_api.function(MODULE, timeout="60")


@pytest.fixture(scope="module")
def stubborn(session_api: Api) -> str:
    """A function whose processes do not want to end."""
    return session_api.function(STUBBORN, timeout="60")


def cancel(api: Api, execution_id: str, status: int = 200) -> dict[str, object]:
    return dict(api.ok("POST", f"/v1/executions/{execution_id}/cancel", status))


def begin(api: Api, function: str, ledger: Ledger, **more: object) -> str:
    """Start an execution that goes on until the ledger's gate opens; return its id."""
    given = {"port": ledger.port, "wait": True, "word": str(uuid.uuid4())}
    made = api.run(function, given, sync=False, **more)
    assert processes.wait_for(lambda: given["word"] in ledger.lines, 30)
    return str(made["id"])


def test_a_running_one(api: Api, waiter: str, ledger: Ledger) -> None:
    made = begin(api, waiter, ledger)
    reply = cancel(api, made)
    assert reply == api.show(made)
    assert reply["status"] == "cancelled"
    assert output(reply) == "The execution was cancelled."
    assert 0 < result(reply)["duration"] < 60
    assert api.listed(status="cancelled", id=made) == [reply]
    assert api.listed(status="neq:cancelled", id=made) == []


def test_with_everything_that_it_started(api: Api, stubborn: str, ledger: Ledger) -> None:
    mark = str(uuid.uuid4())
    made = api.run(stubborn, {"mark": mark, "port": ledger.port}, sync=False)["id"]
    assert processes.wait_for(lambda: ledger.lines, 30)
    assert len(processes.marked(mark)) == 2
    before = time.monotonic()
    assert cancel(api, made)["status"] == "cancelled"
    assert processes.marked(mark) == []
    assert time.monotonic() - before < 5
    assert api.log(made) == b"printed before\n"


def test_one_that_waits(start_service: Callable[..., Running], ledger: Ledger) -> None:
    running = start_service(settings=ONE)
    api = running.api()
    function = api.function(MODULE, timeout="60")
    first = begin(api, function, ledger)
    waiting = api.run(function, {"port": ledger.port, "word": "never"}, sync=False)["id"]
    reply = cancel(api, waiting)
    assert reply["status"] == "cancelled"
    assert reply["attempts"] == 0
    assert json.loads(str(reply["result"])) == {"output": "The execution was cancelled."}
    ledger.gate.set()
    assert api.ended(first)["status"] == "success"
    assert api.run(function, {"port": ledger.port})["status"] == "success"
    assert "never" not in ledger.lines
    api.close()


def test_one_that_has_ended(api: Api) -> None:
    for code, status in (("def main():\n    return 1\n", "success"),
                         ("def main():\n    raise ValueError\n", "failed")):
        made = api.run(api.function(code))
        text = api.refused("POST", f"/v1/executions/{made['id']}/cancel", 409)
        assert text == f"Execution {made['id']} has ended already: its status is {status}."
        assert api.show(made["id"]) == made


def test_twice(api: Api, waiter: str, ledger: Ledger) -> None:
    made = begin(api, waiter, ledger)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(
            lambda _: api.request("POST", f"/v1/executions/{made}/cancel"), range(8)))
    assert {reply.status_code for reply in replies} <= {200, 409}
    assert 200 in {reply.status_code for reply in replies}
    assert "cancelled" in api.refused("POST", f"/v1/executions/{made}/cancel", 409)


def test_the_synchronous_caller_gets_the_record(target: Target, api: Api, waiter: str,
                                                ledger: Ledger) -> None:
    mark = str(uuid.uuid4())
    with ThreadPoolExecutor(1) as pool:
        caller = target.api()
        reply = pool.submit(caller.run, waiter, {"port": ledger.port, "wait": True},
                            description=mark)
        assert processes.wait_for(lambda: ledger.lines, 30)
        (made,) = api.listed(description=mark)
        cancelled = cancel(api, made["id"])
        assert reply.result(20) == cancelled
        caller.close()


@pytest.mark.parametrize("execution", ["x", "0b9bd7a6-6b5e-4e0e-9d2f-0e6a3c1f7d55"])
def test_nothing(api: Api, execution: str) -> None:
    status = 400 if execution == "x" else 404
    api.refused("POST", f"/v1/executions/{execution}/cancel", status)


def test_of_another_project(api: Api, caller_of: Callable[..., Api], waiter: str,
                            ledger: Ledger) -> None:
    made = begin(api, waiter, ledger)
    other = caller_of(project="other", roles="member")
    other.refused("POST", f"/v1/executions/{made}/cancel", 404)
    assert api.show(made)["status"] == "running"
    cancel(api, made)


def test_delete_ends_what_runs(api: Api, stubborn: str, ledger: Ledger) -> None:
    mark = str(uuid.uuid4())
    made = api.run(stubborn, {"mark": mark, "port": ledger.port}, sync=False)["id"]
    assert processes.wait_for(lambda: ledger.lines, 30)
    api.ok("DELETE", f"/v1/executions/{made}", 204)
    assert processes.marked(mark) == []
    api.refused("GET", f"/v1/executions/{made}", 404)


def test_delete_of_one_that_waits(start_service: Callable[..., Running], ledger: Ledger) -> None:
    api = start_service(settings=ONE).api()
    function = api.function(MODULE, timeout="60")
    begin(api, function, ledger)
    waiting = api.run(function, {"port": ledger.port, "word": "never"}, sync=False)["id"]
    api.ok("DELETE", f"/v1/executions/{waiting}", 204)
    ledger.gate.set()
    assert api.run(function, {"port": ledger.port})["status"] == "success"
    assert "never" not in ledger.lines
    api.close()


def test_racing_with_the_end(target: Target, api: Api) -> None:
    """Whichever is first: one terminal state, which every reader sees from then on."""
    function = api.function("def main(**kwargs):\n    return 'done'\n")
    for _ in range(6):
        api.run(function)
    ends: Counter[str] = Counter()
    lock = threading.Lock()

    def race(number: int) -> None:
        mine = target.api()
        for turn in range(25):
            made = mine.run(function, sync=False)["id"]
            time.sleep((number + turn) % 7 * 0.002)
            reply = mine.request("POST", f"/v1/executions/{made}/cancel")
            assert reply.status_code in (200, 202, 409), (reply.status_code, reply.text)
            # 202: a busy machine took more than five seconds, and whichever is first still wins.
            end = mine.ended(made)
            assert end["status"] in {200: ["cancelled"], 202: ["cancelled", "success"],
                                     409: ["success"]}[reply.status_code]
            assert mine.show(made) == end
            with lock:
                ends[end["status"]] += 1
        mine.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(race, range(4)))
    assert ends.total() == 100
    assert ends["cancelled"] > 0, ends


def test_the_operator_cancels_too(start_service: Callable[..., Running], ledger: Ledger) -> None:
    running = start_service(settings=ONE)
    api = running.api()
    function = api.function(MODULE, timeout="60")
    first = begin(api, function, ledger)
    waiting = api.run(function, {"port": ledger.port}, sync=False)["id"]
    missing = str(uuid.uuid4())
    config = running.log_file.with_name("manage.conf")
    config.write_text(f"[database]\nconnection = sqlite:///{running.data_dir}/"
                      "qinling_exec.sqlite\n")
    done = subprocess.run(
        [sys.executable, "-m", "qinling_exec.cmd.manage", "--config-file", str(config),
         "execution", "cancel", waiting, missing, first],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.stdout.splitlines() == [
        f"{waiting}: cancelled", f"{missing}: Execution not found [id={missing}]",
        f"{first}: cancelled",
    ]
    assert done.returncode == 1 and "1 of 3" in done.stderr
    assert {api.show(one)["status"] for one in (first, waiting)} == {"cancelled"}
    api.close()
