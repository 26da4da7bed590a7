# SPDX-License-Identifier: Apache-2.0
"""Workers in real pods that run hostile functions, and those that must not be hurt by them."""

from __future__ import annotations

import contextlib
import socket
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

from tests.functional import processes
from tests.kubernetes import pods
from tests.kubernetes.cluster import Cluster
from tests.unit.runtime.client import Answer, Client
from tests.unit.runtime.conftest import PROGRAM

_SIZE = 48 << 20
#: What ``/proc`` has of a server that would give it away.
OF_A_SERVER = ("mem", "environ", "maps", "smaps", "auxv", "fd", "fd/3", "cwd", "exe", "root",
               "map_files", "io", "stack", "syscall")
#: Where files could be that hold a secret.
SEARCHED = ("/tmp", "/qinling", "/opt", "/etc", "/run", "/dev/shm", "/var")
#: Where a token of the cluster would be.
TOKENS = ("/var/run/secrets", "/run/secrets")
#: Programs: what they reach, and which packets they can make.
CONNECT = """
    result = []
    for host, port in {targets!r}:
        with socket.socket() as client:
            client.settimeout(2)
            try:
                client.connect((host, port))
                result.append([host, port])
            except OSError:
                pass
    """
PACKETS = """
    result = []
    for kind, protocol in ((socket.SOCK_RAW, socket.IPPROTO_ICMP),
                           (socket.SOCK_RAW, socket.IPPROTO_RAW)):
        try:
            socket.socket(socket.AF_INET, kind, protocol)
            result.append(kind)
        except OSError:
            pass
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        result.append('packet')
    except OSError:
        pass
    """
#: Where nothing can be written, and a program that tries.
CLOSED = ("/x", "/opt/qinling/x", "/usr/x", "/etc/x", "/var/tmp/x", "/run/x", "/dev/x", "/sys/x",
          "/proc/x")
WRITE = f"""
    result = []
    for path in {CLOSED}:
        try:
            open(path, 'w')
            result.append(path)
        except OSError:
            pass
    """


class Workers:
    """A hostile tenant's worker, and another tenant's."""

    def __init__(self, cluster: Cluster, namespace: str, image: str) -> None:
        self.cluster, self.namespace, self.image = cluster, namespace, image
        self.hostile = self.start("hostile")
        self.other = self.start("other")

    def start(self, name: str, namespace: str | None = None, **labels: str) -> Client:
        """Start one more, in another namespace perhaps."""
        client = pods.start(self.cluster, namespace or self.namespace,
                            pods.describe(name, self.image, **labels))
        client.specialize(PROGRAM, memory_size=_SIZE, limits={"log_size": 100_000})
        return client

    def state(self, name: str) -> dict[str, Any]:
        """Return what the cluster says of a worker's container."""
        status = self.cluster.get("-n", self.namespace, "pod", name)["status"]
        container: dict[str, Any] = status["containerStatuses"][0]
        return container

    def must_work(self) -> None:
        """Both still work."""
        for client in (self.hostile, self.other):
            assert processes.wait_for(lambda client=client: client.ping()["running"] == 0, 20)
            assert client.run({"program": "result = 'well'"}, timeout=20)["output"] == "well"

    def must_be_the_same(self) -> None:
        """Both have never been started again."""
        for name in ("hostile", "other"):
            assert self.state(name)["restartCount"] == 0


@contextlib.contextmanager
def listening(cluster: Cluster, *workers: Client) -> Iterator[list[tuple[str, int]]]:
    """Yield what really listens: API server, kubelet, workers, a server of this machine."""
    node = cluster.get("nodes")["items"][0]["status"]["addresses"][0]["address"]
    service = cluster.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    with socket.create_server((cluster.host, 0)) as here:
        yield [(service, 443), (node, 6443), (node, 10250),
               *((address_of(worker), pods.PORT) for worker in workers),
               (cluster.host, here.getsockname()[1])]


def address_of(worker: Client) -> str:
    """Return the address of a worker's pod."""
    return worker.path.partition(":")[0]


def attack(client: Client, program: str, timeout: float = 20.0) -> Answer:
    """Run a program."""
    return client.run({"program": textwrap.dedent(program)}, timeout=timeout)


def output_of(client: Client, program: str) -> object:
    """Run a program that succeeds; return its ``result``."""
    answer = attack(client, program)
    assert answer["success"], (answer, answer.text)
    return answer["output"]


def must_be_confined(status: str) -> None:
    """Hold ``/proc/<pid>/status`` against what a process in a pod is to be."""
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["Uid"].split() == ["65532"] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert fields[kind].strip().strip("0") == ""
    assert (fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()) == ("1", "2")


def neighbour(client: Client, seconds: float,
              meanwhile: str = "pass") -> tuple[threading.Thread, Answer]:
    """Start a peaceful run in the same worker; it is there when this returns."""
    before = client.ping()["running"]
    found = client.background(
        {"program": f"open('mine', 'w').write('x' * 10); {meanwhile}; time.sleep({seconds});"
                    " result = open('mine').read()"}, timeout=60)
    assert processes.wait_for(lambda: client.ping()["running"] > before, 10)
    return found
