# SPDX-License-Identifier: Apache-2.0
"""Pods of the runtime's image, as strict as the service makes them."""

from __future__ import annotations

import json
from typing import Any

from tests.kubernetes.cluster import Cluster
from tests.unit.runtime.client import Client

PORT = 9090


def describe(name: str, image: str, memory: str = "256Mi", **labels: str) -> dict[str, Any]:
    """Return a pod that passes Pod Security ``restricted``."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": False,
            "enableServiceLinks": False, "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True,
                                "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": name, "emptyDir": {"sizeLimit": "64Mi"}}
                        for name in ("scratch", "runs")],
            "containers": [{
                "name": "worker", "image": image, "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": PORT}],
                "readinessProbe": {"httpGet": {"path": "/ping", "port": PORT},
                                   "periodSeconds": 1},
                "resources": {
                    "requests": {"cpu": "100m", "memory": "64Mi"},
                    "limits": {"cpu": "1", "memory": memory, "ephemeral-storage": "128Mi"}},
                "securityContext": {"allowPrivilegeEscalation": False,
                                    "readOnlyRootFilesystem": True,
                                    "capabilities": {"drop": ["ALL"]}},
                "env": [{"name": "QINLING_RUNTIME_SCRATCH", "value": "/qinling"}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"},
                                 {"name": "runs", "mountPath": "/qinling"}],
            }],
        },
    }


def start(cluster: Cluster, namespace: str, pod: dict[str, Any]) -> Client:
    """Start a worker in a pod; return a client of it."""
    name = pod["metadata"]["name"]
    cluster.kubectl("-n", namespace, "create", "-f", "-", given=json.dumps(pod))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}",
                    "--timeout=60s", seconds=90)
    status = cluster.get("-n", namespace, "pod", name)["status"]
    return Client(f"{status['podIP']}:{PORT}")
