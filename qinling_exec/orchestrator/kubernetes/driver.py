# SPDX-License-Identifier: Apache-2.0
"""The driver ``kubernetes``: a worker is a pod, taken from its runtime's pool or made for it."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable

from oslo_config import cfg

from qinling_exec import faultpoint
from qinling_exec.orchestrator.base import (
    Capacity,
    NoRoom,
    OrchestratorElsewhere,
    OrchestratorError,
    OrchestratorUnavailable,
    PoolRequest,
    Size,
    WorkerAddress,
    never,
)
from qinling_exec.orchestrator.kubernetes import pods, rights, seen
from qinling_exec.orchestrator.kubernetes.client import STRATEGIC_PATCH, ApiError, Client
from qinling_exec.orchestrator.kubernetes.images import PodImages
from qinling_exec.orchestrator.kubernetes.pools import Pools
from qinling_exec.orchestrator.kubernetes.seen import Pod
from qinling_exec.orchestrator.kubernetes.taking import Taking
from qinling_exec.orchestrator.kubernetes.watch import Watch

LOG = logging.getLogger(__name__)
#: That the end of a pod may take, in seconds.
_END_SECONDS = 15.0
#: Losses that are remembered when their pods are gone.
_LOSSES = 1000


class KubernetesOrchestrator:
    """Workers in pods of one namespace."""

    runs_images = True
    shared = True

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._shape = pods.Shape.of(conf)
        self.client = Client(conf)
        self._on_lost: Callable[[str], None] = lambda name: None
        self.watch = Watch(self.client, self._changed)
        size = Size(conf.limits.default_cpu, conf.limits.default_memory,
                    conf.engine.function_concurrency)
        self._pools = Pools(self.client, self.watch, self._shape, size,
                            conf.kubernetes.pool_replicas,
                            conf.kubernetes.runtime_pool_replicas, conf.engine.start_timeout)
        self._taking = Taking(self.client, self.watch, self._pools, self._shape,
                              conf.engine.start_timeout)
        self.images = PodImages(self.client, self.watch, self._shape, conf.engine.start_timeout)
        self._lock = threading.Lock()
        #: Which pod each worker is, as far as this engine knows; the watch forgets at the end.
        self._pods: dict[str, str] = {}
        self._losses: dict[str, str] = {}
        self.watch.start()

    @staticmethod
    def check(conf: cfg.ConfigOpts) -> str:
        """Ask the cluster whether an engine may do what it has to."""
        try:
            client = Client(conf)
        except ImportError as error:
            raise OrchestratorElsewhere(f"The extra kubernetes is not installed: {error}."
                                        ) from error
        try:
            missing = rights.missing(client)
        finally:
            client.close()
        if missing:
            raise OrchestratorError("The cluster does not allow what an engine has to do in the"
                                    f" namespace {client.namespace}: {', '.join(missing)}.")
        return f"The cluster allows what an engine does in the namespace {client.namespace}."

    def ensure_pool(self, pool: PoolRequest) -> None:
        """Have the cluster keep warm pods of a runtime."""
        self.watch.await_current()
        self._pools.ensure(pool)

    def delete_pool(self, runtime_id: str) -> None:
        """Have the cluster end a runtime's generic pods."""
        self._pools.delete(runtime_id)

    def capacity(self, runtime_id: str) -> Capacity | None:
        """Count a runtime's pods, in the copy that the watch keeps."""
        return self._pools.capacity(runtime_id)

    def take(self, runtime_id: str, name: str, size: Size,
             no_room: NoRoom = never) -> WorkerAddress:
        """Take a warm pod that is large enough, else one on its way, else have one made."""
        self.watch.await_current()
        pool = self._pools.get(runtime_id)
        if pool is None:
            raise OrchestratorUnavailable("This engine has not seen to the runtime's pool yet.")
        if any(pod.worker == name for pod in self.watch.all()):
            self.release(name)  # an engine died with its secret
        pod = self._taking.take(pool, name, size, no_room)
        with self._lock:
            self._pods[name] = pod.name
            self._losses.pop(name, None)  # those were of other pods
        for other in self.watch.all():  # what was made for it, before a warm one came free
            if other.worker == name and other.name != pod.name:
                self._delete(other.name)
        faultpoint.reach("pod-taken")
        return WorkerAddress(name, _address(pod), secrets.token_urlsafe(32))

    def fit(self, name: str, size: Size) -> None:
        """Resize a worker's pod in place."""
        pod = self._pod(name)
        if pod is None:
            raise OrchestratorError(f"Worker {name} is gone.")
        resources = self._shape.resources(size, boost=False)
        wanted = {"spec": {"containers": [{"name": pods.CONTAINER, "resources": resources}]}}
        self.client.request("PATCH", self.client.path("pods", pod.name, "resize"), wanted,
                            kind=STRATEGIC_PATCH)

    def release(self, name: str) -> None:
        """Delete a worker's pods and wait until they are gone."""
        there = {pod.name for pod in self.watch.all() if pod.worker == name}
        with self._lock:
            known = self._pods.pop(name, None)
        for pod_name in there | ({known} if known else set()):
            self._delete(pod_name)

    def alive(self, name: str) -> bool:
        """Tell whether a worker's pod is what it was; where nobody can tell, that it is."""
        pod = self._pod(name)
        return not self.watch.current or (pod is not None and not pod.over)

    def loss(self, name: str) -> str:
        """Return why a worker's pod is none any more."""
        with self._lock:
            return self._losses.get(name, seen.DELETED)

    def workers(self) -> dict[str, str] | None:
        """Return all workers that there are."""
        if not self.watch.current:
            return None
        there = sorted(self.watch.all(), key=lambda pod: not pod.leaving)
        # The one that stays counts, where another of the same name can't go for now.
        return {pod.worker: _address(pod) for pod in there if pod.worker}

    def pools(self) -> set[str]:
        """Return the runtimes that have generic pods."""
        return {pod.pool for pod in self.watch.all() if pod.pool}

    def listen(self, on_lost: Callable[[str], None]) -> None:
        """Have the loss of workers told."""
        self._on_lost = on_lost

    def close(self) -> None:
        """Let go of the cluster; pools and workers stay for the other engines."""
        self.watch.stop()
        self.client.close()

    def _delete(self, pod_name: str) -> None:
        try:
            self.client.request("DELETE", self.client.path("pods", pod_name),
                                {"gracePeriodSeconds": 1})
        except ApiError as error:
            if error.status == 404:
                self.watch.forget(pod_name)
                return
            raise
        self.watch.wait(lambda: self.watch.get(pod_name) is None, _END_SECONDS)

    def _pod(self, name: str) -> Pod | None:
        with self._lock:
            known = self._pods.get(name)
        if known is not None:
            return self.watch.get(known)
        # The one that stays, where another of the same name can't go for now.
        there = [pod for pod in self.watch.all() if pod.worker == name]
        return min(there, key=lambda pod: pod.leaving, default=None)

    def _changed(self, pod_name: str, pod: Pod | None) -> None:
        """Tell of a worker whose pod is one no more."""
        if pod is not None and not (pod.worker and pod.over):
            return
        if pod is None:
            self.images.on_room()
        current = self._pod(pod.worker) if pod is not None and pod.worker else None
        with self._lock:
            lost = [name for name, known in self._pods.items() if known == pod_name]
            if pod is not None and pod.worker:
                lost.append(pod.worker)
                if current is None or current.name == pod_name:
                    self._losses.setdefault(pod.worker, pod.loss)
                while len(self._losses) > _LOSSES:
                    del self._losses[next(iter(self._losses))]
        for name in set(lost):
            self._on_lost(name)


def _address(pod: Pod) -> str:
    host = f"[{pod.address}]" if ":" in pod.address else pod.address
    return f"{host}:{pods.PORT}"
