# SPDX-License-Identifier: Apache-2.0
"""Workers in real pods that run hostile functions, and those that must not be hurt by them."""

from __future__ import annotations

import textwrap
import threading
from typing import Any

from tests.functional import processes
from tests.kubernetes import pods
from tests.kubernetes.cluster import Cluster
from tests.unit.runtime.client import Answer, Client
from tests.unit.runtime.conftest import PROGRAM

_SIZE = 48 << 20


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


def attack(client: Client, program: str, timeout: float = 20.0) -> Answer:
    """Run a program."""
    return client.run({"program": textwrap.dedent(program)}, timeout=timeout)


def neighbour(client: Client, seconds: float,
              meanwhile: str = "pass") -> tuple[threading.Thread, Answer]:
    """Start a peaceful run in the same worker; it is there when this returns."""
    before = client.ping()["running"]
    found = client.background(
        {"program": f"open('mine', 'w').write('x' * 10); {meanwhile}; time.sleep({seconds});"
                    " result = open('mine').read()"}, timeout=60)
    assert processes.wait_for(lambda: client.ping()["running"] > before, 10)
    return found
