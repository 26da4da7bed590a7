# SPDX-License-Identifier: Apache-2.0
"""The driver ``kubernetes``: a worker is a pod, taken from its runtime's pool or made for it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable

from oslo_config import cfg

from qinling_exec import faultpoint
from qinling_exec.orchestrator.base import (
    Capacity,
    OrchestratorError,
    OrchestratorHopeless,
    OrchestratorUnavailable,
    PoolRequest,
    Size,
    WorkerAddress,
)
from qinling_exec.orchestrator.kubernetes import events, pods, seen
from qinling_exec.orchestrator.kubernetes.client import (
    JSON_PATCH,
    STRATEGIC_PATCH,
    ApiError,
    Client,
)
from qinling_exec.orchestrator.kubernetes.images import PodImages
from qinling_exec.orchestrator.kubernetes.pools import Pool, Pools
from qinling_exec.orchestrator.kubernetes.seen import Pod
from qinling_exec.orchestrator.kubernetes.watch import Watch

LOG = logging.getLogger(__name__)
#: That the end of a pod may take, in seconds.
_END_SECONDS = 15.0
#: Between attempts to have a pod made while others use up a quota.
_QUOTA_SECONDS = 1.0
#: Losses that are remembered when their pods are gone.
_LOSSES = 1000


class KubernetesOrchestrator:
    """Workers in pods of one namespace."""

    runs_images = True
    shared = True

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._seconds: float = conf.engine.start_timeout
        self._shape = pods.Shape.of(conf)
        self.client = Client(conf)
        self._on_lost: Callable[[str], None] = lambda name: None
        self.watch = Watch(self.client, self._changed)
        size = Size(conf.limits.default_cpu, conf.limits.default_memory,
                    conf.engine.function_concurrency)
        self._pools = Pools(self.client, self.watch, self._shape, size,
                            conf.kubernetes.pool_replicas,
                            conf.kubernetes.runtime_pool_replicas, self._seconds)
        self.images = PodImages(self.client, self.watch, self._shape, conf.engine.start_timeout)
        self._lock = threading.Lock()
        self._chosen: set[str] = set()
        #: Which pod each worker is, as far as this engine knows; the watch forgets at the end.
        self._pods: dict[str, str] = {}
        self._losses: dict[str, str] = {}
        self.watch.start()

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

    def take(self, runtime_id: str, name: str, size: Size) -> WorkerAddress:
        """Take a warm pod that is large enough, else have one made."""
        self.watch.await_current()
        pool = self._pools.get(runtime_id)
        if pool is None:
            raise OrchestratorUnavailable("This engine has not seen to the runtime's pool yet.")
        if any(pod.worker == name for pod in self.watch.all()):
            self.release(name)  # an engine died with its secret
        pod = self._have(pool, name, size)
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
        return {pod.worker: _address(pod) for pod in self.watch.all() if pod.worker}

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

    def _have(self, pool: Pool, name: str, size: Size) -> Pod:
        """Take a warm pod or have one made; wait while others use up a quota."""
        until = time.monotonic() + self._seconds
        while True:
            pod = None
            if self._shape.memory(size) <= self._pools.memory():
                pod = self._take_warm(pool, name)
            try:
                return pod or self._make(pool, name, size)
            except ApiError as error:
                if not error.is_quota:
                    raise
                if time.monotonic() > until:
                    raise OrchestratorHopeless(str(error)) from error
            time.sleep(_QUOTA_SECONDS)

    def _take_warm(self, pool: Pool, name: str) -> Pod | None:
        """Make one of a pool's pods a worker; None when the pool is empty."""
        while True:
            pod = self._choose(pool)
            if pod is None:
                return None
            try:
                found = self.client.request(
                    "PATCH", self.client.path("pods", pod.name),
                    pods.taking(pod, name), kind=JSON_PATCH)
            except ApiError as error:
                if error.status not in (404, 409, 422):
                    raise
                if not self._refresh(pod.name, name):
                    continue
                found = self.client.request("GET", self.client.path("pods", pod.name))
            finally:
                with self._lock:
                    self._chosen.discard(pod.name)
            with self._lock:
                self._pods[name] = pod.name
            return self.watch.learn(found)

    def _choose(self, pool: Pool) -> Pod | None:
        """Choose a free pod that no other thread of this engine is about to take."""
        with self._lock:
            free = [pod for pod in self._pools.free(pool) if pod.name not in self._chosen]
            if not free:
                return None
            chosen = secrets.choice(free)  # other engines choose too
            self._chosen.add(chosen.name)
        faultpoint.reach("pod-chosen")
        return chosen

    def _refresh(self, pod_name: str, name: str) -> bool:
        """Look at a pod that could not be taken; True when it was, and the answer was lost."""
        pod = self.watch.refresh(pod_name)
        return pod is not None and pod.worker == name

    def _make(self, pool: Pool, name: str, size: Size) -> Pod:
        """Have a pod made that is a worker from its birth; return when it can be used."""
        spec = pods.worker_spec(self._shape, pool.request, size)
        try:
            self.watch.learn(self.client.request(
                "POST", self.client.path("pods"), pods.worker(pool.request, spec, name)))
        except ApiError as error:
            if error.status != 409:  # it was made, and the answer was lost
                raise
        with self._lock:
            self._pods[name] = name
        return self._await(name)

    def _await(self, pod_name: str) -> Pod:
        began = time.monotonic()
        pod: Pod | None = None

        def is_decided() -> bool:
            nonlocal pod
            pod = self.watch.get(pod_name)
            return pod is None or pod.ready or pod.hopeless or pod.over

        self.watch.wait(is_decided, self._seconds)
        if pod is not None and pod.ready and not pod.over:
            LOG.info("Pod %s was made in %.1f s.", pod_name, time.monotonic() - began)
            return pod
        if pod is None:
            raise OrchestratorError("The pod was deleted before it was ready.")
        reason = pod.waiting or pod.loss or events.last_warning(self.client, pod_name)
        kind = OrchestratorHopeless if pod.hopeless else OrchestratorError
        raise kind(f"A pod did not get ready. {reason}".strip())

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
        return next((pod for pod in self.watch.all() if pod.worker == name), None)

    def _changed(self, pod_name: str, pod: Pod | None) -> None:
        """Tell of a worker whose pod is one no more."""
        if pod is not None and not (pod.worker and pod.over):
            return
        with self._lock:
            lost = [name for name, known in self._pods.items() if known == pod_name]
            if pod is not None and pod.worker:
                lost.append(pod.worker)
                self._losses.setdefault(pod.worker, pod.loss)
                while len(self._losses) > _LOSSES:
                    del self._losses[next(iter(self._losses))]
        for name in set(lost):
            self._on_lost(name)


def _address(pod: Pod) -> str:
    host = f"[{pod.address}]" if ":" in pod.address else pod.address
    return f"{host}:{pods.PORT}"
