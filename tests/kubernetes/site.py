# SPDX-License-Identifier: Apache-2.0
"""A deployment on the cluster as scenarios of faults use it: witnesses, ledger, pods, node."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes.cluster import Cluster
from tests.reliability import invariants
from tests.reliability.conftest import FUNCTIONS
from tests.reliability.history import Creation, History
from tests.reliability.invariants import Promise
from tests.reliability.ledger import Ledger

WORKER, POOL = "qinling-exec/worker", "qinling-exec/pool"
RUN = "qinling-exec/execution"
#: Until something happens that is sure to come, on a busy machine.
PATIENCE = 120
#: What makes a program of the witness. It ends well when it is told to end, as many do; which run
#: it is, it knows by the name of its pod.
_PROGRAM = """
import json, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
execution, _, attempt = socket.gethostname().removeprefix("qx-run-").rpartition("-")
main(**json.loads(sys.argv[1]), context={"execution_id": execution, "attempt": int(attempt)})
"""
#: A change of the configuration: more memory than any node has for each worker.
TOO_LARGE = ("[kubernetes]\n", f"[kubernetes]\nserver_memory = {2 << 40}\n")
_FILL = 'echo $$ >"$1" && exec dd if=/dev/zero of="$2" bs=64k count=8k'


class Site:
    """What one test sees of a deployment: its own functions, client and ledger."""

    def __init__(self, cluster: Cluster, namespace: str, deployment: Deployment) -> None:
        self.cluster, self.namespace, self.deployment = cluster, namespace, deployment
        self.api = deployment.api()
        self.history = History([process.url for process in deployment.apis])
        self.ledger = Ledger(cluster.host)
        self._promises: dict[str, Promise] = {}
        self._programs: set[str] = set()
        self._callers = ThreadPoolExecutor(8, "caller")

    def function(self, attempts: int = 1, **fields: Any) -> str:
        """Make a function that tells the ledger what it does."""
        made = self.api.function((FUNCTIONS / "witness.py").read_text(), **{
            "timeout": 300, "max_attempts": str(attempts), **fields})
        self._promises[made] = Promise(max_attempts=attempts)
        return made

    def program(self, image: str, attempts: int = 1, **fields: Any) -> str:
        """Make a function of an image that is Python; it does the same."""
        made = str(self.api.ok("POST", "/v1/functions", 201, json={
            "code": {"source": "image", "image": image}, "timeout": 300, "cpu": 500,
            "max_attempts": attempts, **fields})["id"])
        self._promises[made] = Promise(max_attempts=attempts, result=False)
        self._programs.add(made)
        return made

    def start(self, function: str, seconds: float = 0.0, **given: Any) -> Creation:
        """Have a function run for so long."""
        sync = given.pop("sync", False)
        made = self.history.create(
            function, self.arguments(seconds, **given) if function in self._programs
            else self._given(seconds, **given), sync=sync, timeout=2 * PATIENCE)
        assert made.id is not None, made
        return made

    def arguments(self, seconds: float = 0.0, **given: Any) -> list[str]:
        """Return what makes an image that is Python do what a function does."""
        witness = (FUNCTIONS / "witness.py").read_text()
        return ["-uc", witness + _PROGRAM, json.dumps(self._given(seconds, **given))]

    def _given(self, seconds: float, **given: Any) -> dict[str, Any]:
        return {"ledger": self.ledger.port, "host": self.ledger.host, "seconds": seconds, **given}

    def begin(self, function: str, **given: Any) -> Future[Creation]:
        """Have a function run; a synchronous caller waits for its end."""
        return self._callers.submit(self.start, function, **given)

    def started(self, *made: Creation, attempt: int = 1) -> None:
        """Wait until executions run."""
        assert processes.wait_for(lambda: all(
            any(entry.attempt == attempt for entry in self.ledger.entries(one.id))
            for one in made), PATIENCE), self.deployment.log()

    def ended(self, made: Creation, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until an execution has ended; return its record, with the output in the clear."""
        row = self.api.ended(str(made.id), seconds)
        return {**row, "output": json.loads(row["result"]).get("output")}

    def pods(self, selector: str = WORKER) -> list[dict[str, Any]]:
        """Return pods that are not about to go."""
        found = self.cluster.get("-n", self.namespace, "pods", "-l", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def pod_of(self, function: str) -> dict[str, Any]:
        """Return the one pod that a function has."""
        workers = self.api.ok("GET", f"/v1/functions/{function}/workers")
        names = {item["worker_name"] for item in workers["workers"]}
        pod, = [pod for pod in self.pods() if pod["metadata"]["labels"][WORKER] in names]
        return pod

    def lose(self, function: str) -> str:
        """End the pod of a function at once; return its name."""
        pod = self.pod_of(function)
        server, name = server_of(pod), str(pod["metadata"]["name"])
        self.cluster.kubectl("-n", self.namespace, "delete", "pod", name, "--force",
                             "--grace-period=0")
        assert processes.wait_for(lambda: not processes.command(server), PATIENCE)
        return name

    def finish(self) -> None:
        """Hold records against the ledger, delete the functions; no pod of theirs is left."""
        try:
            self.history.settle(PATIENCE)
            self.ledger.wait_until_gone(PATIENCE)
            invariants.check([self.history], self.ledger, self._promises)
        finally:
            for made in self.history.accepted:
                self.api.ok("DELETE", f"/v1/executions/{made.id}", 204)
            for function in self.api.ok("GET", "/v1/functions")["functions"]:
                self.api.ok("DELETE", f"/v1/functions/{function['id']}", 204)
            self._callers.shutdown()
            self.history.close()
            self.ledger.close()
        for kind in (WORKER, RUN):
            assert processes.wait_for(lambda kind=kind: not self.cluster.get(
                "-n", self.namespace, "pods", "-l", kind)["items"], PATIENCE), \
                self.deployment.log()


def clear(deployment: Deployment) -> None:
    """Delete the functions and runtimes of a deployment."""
    api = deployment.api()
    for kind in ("functions", "runtimes"):
        for made in api.ok("GET", f"/v1/{kind}")[kind]:
            api.ok("DELETE", f"/v1/{kind}/{made['id']}", 204)


@contextlib.contextmanager
def engine_with(deployment: Deployment, *changes: tuple[str, str]) -> Iterator[None]:
    """Have an engine with another configuration meanwhile, as an operator who errs."""
    before = deployment.config.read_text()
    changed = before
    for old, new in changes:
        changed = changed.replace(old, new)
    _exchange_engine(deployment, changed)
    try:
        yield
    finally:
        _exchange_engine(deployment, before)


def _exchange_engine(deployment: Deployment, config: str) -> None:
    assert deployment.engines[-1].stop() == 0
    deployment.config.write_text(config)
    deployment.start_engine()


def evict(site: Site, pod: str) -> None:
    """Have the cluster end a pod as when its node is drained."""
    site.cluster.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{site.namespace}/pods/{pod}/eviction", "-f", "-",
        given=json.dumps({"apiVersion": "policy/v1", "kind": "Eviction",
                          "metadata": {"name": pod, "namespace": site.namespace}}))


def processes_of(pod: dict[str, Any]) -> list[int]:
    """Return the processes of a pod's server and its runs, where the node is this machine."""
    uid = pod["metadata"]["uid"]
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and "qinling_exec.runtime" in processes.command(int(entry.name)):
            try:
                groups = (entry / "cgroup").read_text()
            except OSError:
                continue
            if uid in groups or uid.replace("-", "_") in groups:
                found.append(int(entry.name))
    assert found, f"no process of pod {uid} is on this machine"
    return found


def server_of(pod: dict[str, Any]) -> int:
    """Return the process of a pod's server, where the node is this machine."""
    found = processes_of(pod)
    return next(pid for pid in found if processes.parent(pid) not in found)


def kill_server(pod: dict[str, Any]) -> None:
    """Kill a pod's server, as if it had crashed."""
    os.kill(server_of(pod), signal.SIGKILL)


def group_of(pod: dict[str, Any], kind: str) -> pathlib.Path:
    """Return the folder of the control group of a pod's container."""
    text = pathlib.Path(f"/proc/{server_of(pod)}/cgroup").read_text()
    for line in text.splitlines():
        _, kinds, path = line.split(":", 2)
        if kind in kinds.split(","):
            return pathlib.Path(f"/sys/fs/cgroup/{kind}{path}")
    pytest.skip("THE NODE HAS CGROUPS OF ANOTHER VERSION: they are not looked at here")


def exhaust_memory(pod: dict[str, Any]) -> None:
    """Use up the memory of a pod's container with pages that no process's end gives back."""
    server, group = server_of(pod), group_of(pod, "memory") / "cgroup.procs"
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as pages:
        subprocess.run(["sh", "-c", _FILL,
                        "sh", group, pages.name], check=False, capture_output=True, timeout=60)
        assert processes.wait_for(lambda: not processes.command(server), 20), "the server lives"
