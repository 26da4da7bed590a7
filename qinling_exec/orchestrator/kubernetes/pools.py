# SPDX-License-Identifier: Apache-2.0
"""Pools: a Deployment of generic pods for each runtime, shared by all engines."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from qinling_exec.orchestrator.base import Capacity, OrchestratorError, PoolRequest, Size
from qinling_exec.orchestrator.kubernetes import events, names, pods
from qinling_exec.orchestrator.kubernetes.client import APPLY_PATCH, ApiError, Client, Object
from qinling_exec.orchestrator.kubernetes.seen import Pod
from qinling_exec.orchestrator.kubernetes.watch import Watch

#: Between looks at a Deployment whose pods do not come, in seconds.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Pool:
    """A runtime's pool as it is to be."""

    request: PoolRequest
    spec: Object
    template: str


class Pools:
    """The pools of a namespace.

    :param size: of the functions that a pool's pods are made for.
    :param replicas: warm pods of a runtime.
    :param others: the same for runtimes of these names or ids.
    :param seconds: within which a pod must be ready.
    """

    def __init__(self, client: Client, watch: Watch, shape: pods.Shape, size: Size,
                 replicas: int, others: Mapping[str, int], seconds: float) -> None:
        self._client = client
        self._watch = watch
        self._shape = shape
        self._size = size
        self._replicas = replicas
        self._others = others
        self._seconds = seconds
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}

    def ensure(self, request: PoolRequest) -> None:
        """Create a pool or bring it up to date; return when a pod of it is ready.

        :raises OrchestratorError: none is in time, or none can be; with the reason.
        """
        spec = pods.worker_spec(self._shape, request, self._size)
        pool = Pool(request, spec, pods.template(spec))
        replicas = self._others.get(
            request.runtime_id, self._others.get(request.name or "", self._replicas))
        wanted = pods.deployment(request, spec, replicas, str(int(time.time())))
        self._client.request(
            "PATCH", self._client.path("deployments", names.pool(request.runtime_id)), wanted,
            kind=APPLY_PATCH, fieldManager=names.MANAGER, force="true")
        with self._lock:
            self._pools[request.runtime_id] = pool
        self._delete_hopeless(pool)
        if replicas:
            self._await(pool)

    def delete(self, runtime_id: str) -> None:
        """Delete a pool; the cluster ends its pods."""
        with self._lock:
            self._pools.pop(runtime_id, None)
        try:
            self._client.request(
                "DELETE", self._client.path("deployments", names.pool(runtime_id)),
                {"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status != 404:
                raise

    def get(self, runtime_id: str) -> Pool | None:
        """Return a runtime's pool if this engine has seen to it."""
        with self._lock:
            return self._pools.get(runtime_id)

    def capacity(self, runtime_id: str) -> Capacity | None:
        """Count a pool's pods and the workers that came out of it."""
        if self.get(runtime_id) is None:
            return None
        mine = [pod for pod in self._watch.all() if pod.runtime == runtime_id and not pod.leaving]
        free = sum(pod.free for pod in mine)
        return Capacity(free + sum(pod.worker is not None for pod in mine), free)

    def takeable(self, pool: Pool) -> list[Pod]:
        """Return the pods of a pool that can be taken: they are free, or on their way."""
        return [pod for pod in self._of(pool) if pod.free or pod.coming]

    def memory(self) -> int:
        """Return the bytes that a pool's pods may use."""
        return self._shape.memory(self._size)

    def _delete_hopeless(self, pool: Pool) -> None:
        """Let pods that wait in vain, longer each time, make way for new ones that try at once."""
        for pod in self._of(pool):
            if pod.hopeless:
                try:
                    self._client.request("DELETE", self._client.path("pods", pod.name),
                                         {"gracePeriodSeconds": 0})
                except ApiError as error:
                    if error.status != 404:
                        raise
                self._watch.forget(pod.name)

    def _await(self, pool: Pool) -> None:
        until, reason = time.monotonic() + self._seconds, ""
        while time.monotonic() < until:
            if self._watch.wait(lambda: self._settled(pool), _LOOK_SECONDS):
                there = self._of(pool)
                if any(pod.free for pod in there):
                    return
                for pod in there:  # none, if another engine has just let them make way
                    if pod.hopeless:
                        raise OrchestratorError(pod.waiting)
            reason = self._refusal(pool) or reason
        there = self._of(pool)
        reason = next((pod.waiting for pod in there if pod.waiting), reason)
        if there and not reason:
            reason = events.last(self._client, there[0].name)
        raise OrchestratorError(
            f"No pod was ready within {self._seconds:.0f} seconds. {reason}".strip())

    def _settled(self, pool: Pool) -> bool:
        """Tell whether a pod is ready, or some pod will never be and none is on its way."""
        there = self._of(pool)
        return any(pod.free for pod in there) or (
            any(pod.hopeless for pod in there) and not any(pod.coming for pod in there))

    def _of(self, pool: Pool) -> list[Pod]:
        return [pod for pod in self._watch.all()
                if pod.pool == pool.request.runtime_id and pod.template == pool.template]

    def _refusal(self, pool: Pool) -> str:
        """Return why the cluster lets no pod be made: a quota, a policy."""
        found = self._client.request(
            "GET", self._client.path("deployments", names.pool(pool.request.runtime_id)))
        for condition in found.get("status", {}).get("conditions") or ():
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return str(condition.get("message", ""))
        return ""
