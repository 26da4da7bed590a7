# SPDX-License-Identifier: Apache-2.0
"""Descriptions of pods: what the service asks the cluster for. Pure functions of their input."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from qinling_exec.orchestrator.base import ImageRun, OrchestratorError, PoolRequest, Size
from qinling_exec.orchestrator.kubernetes import names
from qinling_exec.orchestrator.kubernetes.client import Object
from qinling_exec.orchestrator.kubernetes.seen import Pod
from qinling_exec.runtime import journal

PORT = 9090
CONTAINER = "worker"
#: The container of an image's pod.
PROGRAM = "function"
#: Where a worker keeps its own files and those of each run: a place that, unlike /tmp, no run has
#: to be let into as a whole.
_SCRATCH = "/qinling"
#: Between SIGTERM and SIGKILL, in seconds: who ends a pod wants it gone.
_END_SECONDS = 1
#: After the cluster has found that a node does not answer (40 seconds by its default): then its
#: workers are lost. A cluster's own default is five minutes.
_NODE_SECONDS = 20


@dataclass(frozen=True)
class Shape:
    """What pods of this deployment have in common, from the configuration."""

    server_cpu: int
    server_memory: int
    boost_cpu: int
    request_percent: int
    scratch_size: int
    pull_policy: str
    pull_secrets: tuple[str, ...]
    runtime_class: str | None
    untrusted_runtime_class: str | None
    image_user: int
    log: str

    @classmethod
    def of(cls, conf: cfg.ConfigOpts) -> Shape:
        """Return what a configuration says."""
        options = conf.kubernetes
        return cls(options.server_cpu, options.server_memory, options.boost_cpu,
                   options.request_percent, options.scratch_size, options.image_pull_policy,
                   tuple(options.image_pull_secrets), options.runtime_class,
                   options.untrusted_runtime_class, options.image_user,
                   "json" if conf.use_json else "")

    def memory(self, size: Size) -> int:
        """Return the bytes that a worker of a size may use."""
        return self.server_memory + size.room * size.memory

    def resources(self, size: Size, boost: bool) -> Object:
        """Return the container's requests and limits.

        :param boost: it has still to load its function.
        """
        cpu, memory = self.server_cpu + size.room * size.cpu, self.memory(size)
        found = self.limited(cpu, memory)
        if boost:
            found["limits"]["cpu"] = f"{max(cpu, self.boost_cpu)}m"
        return found

    def limited(self, cpu: int, memory: int) -> Object:
        """Return requests and limits. :param cpu: millicpu. :param memory: bytes."""
        part = self.request_percent / 100
        return {
            "requests": {"cpu": f"{max(1, int(cpu * part))}m", "memory": str(int(memory * part))},
            "limits": {"cpu": f"{cpu}m", "memory": str(memory)},
        }

    def class_of(self, trusted: bool) -> str | None:
        """Return the RuntimeClass of pods.

        :raises OrchestratorError: code that nobody trusts can't be kept apart here.
        """
        if trusted:
            return self.runtime_class
        if not self.untrusted_runtime_class:
            raise OrchestratorError(
                "The runtime is not trusted, and this service has no stronger isolation for it:"
                " an operator has to set [kubernetes] untrusted_runtime_class.")
        return self.untrusted_runtime_class


def worker_spec(shape: Shape, pool: PoolRequest, size: Size) -> Object:
    """Return the spec of a generic worker's pod."""
    container = _container(shape, CONTAINER, pool.image)
    resources = shape.resources(size, boost=True)
    for kind in resources.values():
        kind["ephemeral-storage"] = str(shape.scratch_size)
    environment = [{"name": "QINLING_RUNTIME_SCRATCH", "value": _SCRATCH}]
    if shape.log:
        environment.append({"name": journal.VARIABLE, "value": shape.log})
    container |= {
        "env": environment,
        "volumeMounts": [*container["volumeMounts"], {"name": "runs", "mountPath": _SCRATCH}],
        "ports": [{"name": "worker", "containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/ping", "port": PORT}, "periodSeconds": 1,
                           "timeoutSeconds": 5, "failureThreshold": 10},
        "resources": resources,
        "resizePolicy": [{"resourceName": name, "restartPolicy": "NotRequired"}
                         for name in ("cpu", "memory")],
    }
    spec = _spec(shape, container, shape.class_of(pool.trusted), "Always")
    spec["volumes"].append(_volume(shape, "runs"))
    return spec


def template(spec: Object) -> str:
    """Return what tells one description from another."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def deployment(pool: PoolRequest, spec: Object, replicas: int, asked: str) -> Object:
    """Return a runtime's pool.

    :param asked: when; another time has the cluster try at once to make pods that it lacks.
    """
    labels = {names.MANAGED: names.MANAGER, names.POOL: pool.runtime_id}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": names.pool(pool.runtime_id), "labels": labels,
                     "annotations": {names.ASKED: asked}},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate",
                         "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "100%"}},
            "template": {"metadata": {"labels": {
                **labels, names.RUNTIME: pool.runtime_id, names.TEMPLATE: template(spec)}},
                "spec": spec},
        },
    }


def worker(pool: PoolRequest, spec: Object, name: str) -> Object:
    """Return a pod that is a worker from its birth, where the pool has none to take."""
    labels = {names.MANAGED: names.MANAGER, names.RUNTIME: pool.runtime_id,
              names.WORKER: name, names.TEMPLATE: template(spec)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": spec}


def run(shape: Shape, wanted: ImageRun, start_seconds: int) -> Object:
    """Return the pod of one attempt of a function that is made of an image.

    :param start_seconds: that it may take to start; until it has, they count towards its deadline.
    """
    execution_id, attempt = wanted.attempt
    container = _container(shape, PROGRAM, wanted.image)
    resources = shape.limited(wanted.cpu, wanted.memory)
    for kind in resources.values():
        kind["ephemeral-storage"] = str(shape.scratch_size)
    container["resources"] = resources
    if wanted.arguments:
        # The cluster would put variables in for $(NAME); $$ stands for one $.
        container["args"] = [argument.replace("$", "$$") for argument in wanted.arguments]
    if shape.image_user:
        container["securityContext"]["runAsUser"] = shape.image_user
    # Whose images these are nobody knows: the strongest isolation that there is.
    spec = _spec(shape, container, shape.untrusted_runtime_class or shape.runtime_class, "Never")
    spec["activeDeadlineSeconds"] = start_seconds + wanted.timeout
    # As process 1 a program would not hear SIGTERM: each end would take the time until SIGKILL.
    spec["shareProcessNamespace"] = True
    labels = {names.MANAGED: names.MANAGER, names.EXECUTION: execution_id,
              names.ATTEMPT: str(attempt)}
    notes = {names.TIMEOUT: str(wanted.timeout), names.LOG_BEGIN: str(wanted.log_begin)}
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": names.run(execution_id, attempt), "labels": labels,
                         "annotations": notes}}


def taking(pod: Pod, name: str) -> list[Object]:
    """Return the patch that makes a pool's pod a worker, if it is still what was seen.

    Without its owner it stays when the pool goes.
    """
    steps: list[Object] = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": pod.version},
        {"op": "remove", "path": names.pointer(names.POOL)},
        {"op": "add", "path": names.pointer(names.WORKER), "value": name},
        {"op": "add", "path": names.pointer(names.RESTARTS), "value": str(pod.restarts)},
    ]
    return steps + ([{"op": "remove", "path": "/metadata/ownerReferences"}] if pod.owned else [])


def _container(shape: Shape, name: str, image: str) -> Object:
    return {
        "name": name, "image": image, "imagePullPolicy": shape.pull_policy,
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }


def _volume(shape: Shape, name: str) -> Object:
    return {"name": name, "emptyDir": {"sizeLimit": str(shape.scratch_size)}}


def _spec(shape: Shape, container: Object, runtime_class: str | None, restart: str) -> Object:
    """Return what passes Pod Security ``restricted``: no token, no root, nothing of the node."""
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": _END_SECONDS,
        "tolerations": [{"key": f"node.kubernetes.io/{state}", "operator": "Exists",
                         "effect": "NoExecute", "tolerationSeconds": _NODE_SECONDS}
                        for state in ("not-ready", "unreachable")],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [_volume(shape, "scratch")],
        "containers": [container],
    }
    if shape.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in shape.pull_secrets]
    if runtime_class:
        spec["runtimeClassName"] = runtime_class
    return spec
