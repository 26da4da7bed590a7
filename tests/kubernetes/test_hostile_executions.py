# SPDX-License-Identifier: Apache-2.0
"""Hostile functions through the API: what their records say is what happened, and nobody is hurt.

What they try at the worker itself, its network, its other runs and its secret is in test_hostile,
test_hostile_network, test_hostile_neighbours and test_secret.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import output
from tests.functional.deployment import Deployment
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.site import PATIENCE, Site

_LOG_SIZE, _SCRATCH = 200_000, 64 << 20
_FORK = """
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)
    """
_MEMORY = "return len(bytearray(2 << 30))"
_FLOOD = """
    block = b"x" * (1 << 20)
    for _ in range(10 << 10):
        os.write(1, block)
    """
_DISK = """
    for number in range(64):
        with open("/tmp/big%d" % number, "wb", 0) as file:
            for _ in range(8):
                file.write(b"x" * (1 << 20))
    time.sleep(300)
    """
_SERVER = """
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
    os.kill(1, signal.SIGKILL)
    os.kill(-1, signal.SIGKILL)
    time.sleep(300)
    """
_FORGED = """
    reply = json.dumps({"success": True, "output": "forged", "duration": 0}).encode()
    for number in range(3, 64):
        try:
            os.write(number, reply)
        except OSError:
            pass
    os._exit(1)
    """


def _module(body: str) -> str:
    return ("import json, os, signal, time\n\n\ndef main(**kwargs):\n"
            + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n")


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], reachable: None) -> Deployment:
    return deploy(kubernetes={"pool_replicas": 2, "scratch_size": _SCRATCH},
                  settings={"limits": {"log_size": _LOG_SIZE}})


class Witness(Site):
    """Another tenant's function, which has a warm worker all the time."""

    def __init__(self, cluster: Cluster, namespace: str, deployment: Deployment) -> None:
        super().__init__(cluster, namespace, deployment)
        self._function = self.function()
        self.must_work()
        self.worker = self.pod_of(self._function)["metadata"]["name"]

    def must_work(self) -> None:
        assert self.ended(self.start(self._function))["status"] == "success"


@pytest.fixture(scope="module")
def witness(cluster: Cluster, namespace: str, deployment: Deployment) -> Iterator[Witness]:
    here = Witness(cluster, namespace, deployment)
    yield here
    here.finish()


def _attack(witness: Witness, body: str, seconds: int = 4) -> dict[str, Any]:
    """Run a hostile function; meanwhile and afterwards another tenant's function works."""
    function = witness.api.function(_module(body), timeout=str(seconds))
    made = witness.api.run(function, sync=False)
    witness.must_work()
    row = witness.api.ended(made["id"], PATIENCE)
    witness.must_work()
    log = witness.api.log(made["id"])
    assert row["attempts"] == 1
    witness.api.ok("DELETE", f"/v1/executions/{made['id']}", 204)
    witness.api.ok("DELETE", f"/v1/functions/{function}", 204)
    return {**row, "output": output(row), "log": log}


@pytest.mark.parametrize(("body", "status", "said"), [
    pytest.param(_MEMORY, "failed", "too much resource consumption", id="memory"),
    pytest.param(_SERVER, "failed", "SIGKILL|timeout|killed|signal", id="kills-all"),
    pytest.param(_FORGED, "failed", "wrote to the channel", id="forged-result"),
    # The limit of processes is the pod's: the server itself may be what dies of it.
    pytest.param(_FORK, "failed|error", "timeout|lost before it answered", id="fork-bomb"),
])
def test_the_record_is_honest(witness: Witness, body: str, status: str, said: str) -> None:
    row = _attack(witness, body)
    assert re.fullmatch(status, row["status"]), row
    assert re.search(said, str(row["output"])), row
    assert "forged" not in str(row["output"])


def test_its_neighbour_in_the_same_worker(witness: Witness) -> None:
    """One execution of a function kills and stops all that it can; another one goes on."""
    function = witness.api.function(_module("""
        if kwargs["peaceful"]:
            time.sleep(3)
            return "went on"
        time.sleep(1)  # the other one has begun by then
        for number in (signal.SIGSTOP, signal.SIGKILL):
            os.kill(-1, number)
        time.sleep(300)
        """), timeout="20")
    peaceful, hostile = (witness.api.run(function, {"peaceful": mild}, sync=False)
                         for mild in (True, False))
    row = witness.api.ended(peaceful["id"], PATIENCE)
    assert (row["status"], output(row)) == ("success", "went on")
    assert witness.api.ended(hostile["id"], PATIENCE)["status"] == "failed"
    assert len(witness.api.ok("GET", f"/v1/functions/{function}/workers")["workers"]) == 1
    for made in (peaceful, hostile):
        witness.api.ok("DELETE", f"/v1/executions/{made['id']}", 204)
    witness.api.ok("DELETE", f"/v1/functions/{function}", 204)


def test_output_without_end(witness: Witness) -> None:
    row = _attack(witness, _FLOOD, 5)
    assert row["status"] in ("failed", "success"), row
    assert row["log"].startswith(b"xxxx")
    assert _LOG_SIZE <= len(row["log"]) <= _LOG_SIZE + 300
    assert b"cut here" in row["log"][-200:]


@pytest.mark.long
def test_a_disk_that_is_filled(witness: Witness) -> None:
    """The node takes the pod away after half a minute or so, and the record says why."""
    row = _attack(witness, _DISK, 200)
    print(row["status"], row["output"])
    assert row["status"] in ("error", "failed"), row
    if row["status"] == "error":
        assert "its pod was evicted (Evicted)" in row["output"], row
    else:
        assert re.search("space|File too large|quota", str(row["output"])), row


def test_nothing_is_left_of_them(witness: Witness) -> None:
    """Of all the above there is the peaceful worker alone."""
    assert processes.wait_for(lambda: [
        pod["metadata"]["name"] for pod in witness.pods()] == [witness.worker], PATIENCE)
