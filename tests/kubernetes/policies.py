# SPDX-License-Identifier: Apache-2.0
"""The network policies that the project ships, for namespaces of tests."""

from __future__ import annotations

from typing import Any

import yaml

from tests.kubernetes import pods
from tests.kubernetes.deployment import SHIPPED, SYSTEM, WORKERS


def of_workers(namespace: str, service: str, host: str) -> list[dict[str, Any]]:
    """Return the policies of the workers' namespace, for other namespaces.

    :param service: the namespace of the service.
    :param host: this machine as pods see it; it may reach workers too, in place of the service.
    """
    text = (SHIPPED / "base" / "workers.yaml").read_text()
    shipped = [found for found in yaml.safe_load_all(text) if found["kind"] == "NetworkPolicy"]
    for policy in shipped:
        assert policy["metadata"]["namespace"] == WORKERS
        policy["metadata"]["namespace"] = namespace
        for rule in policy["spec"].get("ingress", []):
            for peer in rule["from"]:
                labels = peer["namespaceSelector"]["matchLabels"]
                assert labels == {"kubernetes.io/metadata.name": SYSTEM}
                labels["kubernetes.io/metadata.name"] = service
    return [*shipped, {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "test-reaches-workers", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{
            "from": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"port": pods.PORT}]}]}}]


def internet(namespace: str, runtime: str, cidr: str, shipped: bool = False) -> dict[str, Any]:
    """Return the shipped policy that opens a runtime's workers the way out.

    :param cidr: what is open, in place of everything.
    :param shipped: leave the addresses as they are.
    """
    policy: dict[str, Any] = yaml.safe_load((SHIPPED / "egress" / "internet.yaml").read_text())
    policy["metadata"]["namespace"] = namespace
    policy["spec"]["podSelector"]["matchLabels"]["qinling-exec/runtime"] = runtime
    (rule,) = policy["spec"]["egress"]
    assert rule["to"][0]["ipBlock"]["cidr"] == "0.0.0.0/0"
    if not shipped:
        rule["to"][0]["ipBlock"] = {"cidr": cidr}
        rule["ports"] = []
    return policy
