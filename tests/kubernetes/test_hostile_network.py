# SPDX-License-Identifier: Apache-2.0
"""What hostile functions in real pods reach by network: nothing, but what an operator opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes import hostile, policies
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hostile import Workers, attack
from tests.unit.runtime.client import Client


class Walled(Workers):
    """And one that no policy holds."""

    def __init__(self, cluster: Cluster, namespace: str, open_to_all: str, image: str) -> None:
        super().__init__(cluster, namespace, image)
        self.free = self.start("free", open_to_all)


@pytest.fixture(scope="module")
def workers(cluster: Cluster, namespace: str, runtime_image: str) -> Iterator[Walled]:
    beside = cluster.make_namespace()
    try:
        cluster.apply(*policies.of_workers(namespace, beside, cluster.host))
        started = Walled(cluster, namespace, beside, runtime_image)
        yield started
        started.must_be_the_same()
    finally:
        cluster.delete_namespace(beside)


@pytest.fixture(autouse=True)
def nobody_else_is_hurt(workers: Walled) -> Iterator[None]:
    """After each test both tenants' workers still work."""
    yield
    workers.must_work()


def reached(client: Client, targets: list[tuple[str, int]]) -> list[list[Any]]:
    answer = attack(client, hostile.CONNECT.format(targets=targets), 60)
    assert answer["success"], answer
    return list(answer["output"])


@pytest.fixture(scope="module")
def targets(cluster: Cluster, workers: Walled) -> Iterator[list[tuple[str, int]]]:
    with hostile.listening(cluster, workers.other, workers.free) as found:
        yield found


def test_nothing_can_be_reached(workers: Walled, targets: list[tuple[str, int]]) -> None:
    assert reached(workers.hostile, targets) == []


def test_what_is_not_reached_is_there(workers: Walled, targets: list[tuple[str, int]]) -> None:
    """The same, from where no policy holds: all but the other tenant's worker."""
    assert reached(workers.free, targets) == [
        list(target) for target in targets if target[0] != hostile.address_of(workers.other)]


@pytest.mark.parametrize("address", [("169.254.169.254", 80), ("192.0.2.1", 443)])
def test_metadata_and_internet(workers: Walled, address: tuple[str, int]) -> None:
    """Nothing listens there in a test: this holds the shipped policy against it as well."""
    rule = policies.internet("any", "any", "0.0.0.0/0", shipped=True)["spec"]["egress"][0]
    assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"]
    answer = attack(workers.hostile, f"""
        with socket.socket() as client:
            client.settimeout(5)
            try:
                client.connect({address!r})
            except OSError as error:
                result = type(error).__name__
        """)
    assert "Error" in str(answer["output"])


def test_no_packet_of_another_kind(workers: Walled) -> None:
    assert attack(workers.hostile, hostile.PACKETS)["output"] == []


def test_way_out_that_an_operator_opens(workers: Walled,
                                        targets: list[tuple[str, int]]) -> None:
    """Of one runtime, to what the policy names, and nothing more."""
    here = targets[-1]
    workers.cluster.apply(policies.internet(workers.namespace, "opened", f"{here[0]}/32"))
    client = workers.start("opened", **{"qinling-exec/runtime": "opened"})
    assert reached(client, targets) == [list(here)]
    assert reached(workers.hostile, [here]) == []
