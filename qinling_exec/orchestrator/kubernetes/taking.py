# SPDX-License-Identifier: Apache-2.0
"""How a worker gets its pod: a warm one, one on its way to the pool, or one made for it."""

from __future__ import annotations

import functools
import logging
import secrets
import threading
import time

from qinling_exec import faultpoint
from qinling_exec.metrics import POD_SECONDS
from qinling_exec.orchestrator.base import (
    NoRoom,
    OrchestratorError,
    OrchestratorFull,
    OrchestratorHopeless,
    OrchestratorSpent,
    Size,
)
from qinling_exec.orchestrator.kubernetes import events, pods, room
from qinling_exec.orchestrator.kubernetes.client import JSON_PATCH, ApiError, Client
from qinling_exec.orchestrator.kubernetes.pools import Pool, Pools
from qinling_exec.orchestrator.kubernetes.seen import Pod
from qinling_exec.orchestrator.kubernetes.watch import Watch

LOG = logging.getLogger(__name__)
#: Between looks whether there is room by now, in seconds.
_ROOM_SECONDS = 0.5


class Taking:
    """Takes pods for workers.

    :param seconds: within which a pod that has a node must be ready.
    """

    def __init__(self, client: Client, watch: Watch, pools: Pools, shape: pods.Shape,
                 seconds: float) -> None:
        self._client = client
        self._watch = watch
        self._pools = pools
        self._shape = shape
        self._seconds = seconds
        self._lock = threading.Lock()
        self._chosen: set[str] = set()

    def take(self, pool: Pool, name: str, size: Size, no_room: NoRoom) -> Pod:
        """Return a pod that is a worker's, and ready; while there is no room, wait for some.

        :raises OrchestratorFull: it was to wait no longer.
        :raises OrchestratorError: none can be had. In both cases there may be a pod.
        """
        fits = self._shape.memory(size) <= self._pools.memory()
        pod: Pod | None = None
        while True:
            # Of the pool's pods that take up room the first that is ready will do, too.
            found = self._from_pool(pool, name, pod is not None) if fits else None
            reason, kind, in_vain = "", OrchestratorFull, False
            if found is None and pod is None:
                try:
                    found = self._make(pool, name, size)
                except ApiError as error:
                    if not error.is_quota:
                        raise
                    reason, kind = str(error), OrchestratorSpent
                    in_vain = room.never_comes(reason)
            pod = found or pod
            if pod is not None:
                pod = self._await(pod.name)
                if not pod.unplaced:
                    # By the one engine that takes it: all of them see each pod get ready.
                    if pod.start_seconds is not None:
                        POD_SECONDS.labels("worker" if pod.name == name else "pool").observe(
                            pod.start_seconds)
                    return pod
                reason, in_vain = f"A pod did not get ready. {pod.waiting}", pod.misplaced
            moves = room.comes(self._watch, name, in_vain)
            if not no_room(moves):
                raise kind(reason, moves)
            self._watch.wait(functools.partial(self._is_placed, pod), _ROOM_SECONDS)

    def _is_placed(self, pod: Pod | None) -> bool:
        """Tell whether a pod that no node had room for has one now, or is gone."""
        if pod is None:
            return False
        now = self._watch.get(pod.name)
        return now is None or not now.unplaced

    def _from_pool(self, pool: Pool, name: str, only_free: bool) -> Pod | None:
        """Make one of a pool's pods a worker; None when the pool has none for it."""
        while True:
            pod = self._choose(pool, only_free)
            if pod is None:
                return None
            try:
                found = self._client.request(
                    "PATCH", self._client.path("pods", pod.name),
                    pods.taking(pod, name), kind=JSON_PATCH)
            except ApiError as error:
                if error.status not in (404, 409, 422):
                    raise
                if not self._refresh(pod.name, name):
                    continue
                found = self._client.request("GET", self._client.path("pods", pod.name))
            finally:
                with self._lock:
                    self._chosen.discard(pod.name)
            return self._watch.learn(found)

    def _choose(self, pool: Pool, only_free: bool) -> Pod | None:
        """Choose a pod that no other thread of this engine is about to take.

        One that the cluster has begun to make for the pool is there before one that is made now.
        """
        with self._lock:
            there = [pod for pod in self._pools.takeable(pool) if pod.name not in self._chosen]
            found = [pod for pod in there if pod.free]
            if not (found or only_free):
                found = there
            if not found:
                return None
            chosen = secrets.choice(found)  # other engines choose too
            self._chosen.add(chosen.name)
        faultpoint.reach("pod-chosen")
        return chosen

    def _refresh(self, pod_name: str, name: str) -> bool:
        """Look at a pod that could not be taken; True when it was, and the answer was lost."""
        pod = self._watch.refresh(pod_name)
        return pod is not None and pod.worker == name

    def _make(self, pool: Pool, name: str, size: Size) -> Pod:
        """Have a pod made that is a worker from its birth."""
        spec = pods.worker_spec(self._shape, pool.request, size)
        try:
            found = self._client.request(
                "POST", self._client.path("pods"), pods.worker(pool.request, spec, name))
        except ApiError as error:
            if error.status != 409:  # it was made, and the answer was lost
                raise
            found = self._client.request("GET", self._client.path("pods", name))
        return self._watch.learn(found)

    def _await(self, pod_name: str) -> Pod:
        """Wait until a pod is ready, or no node has room for it; return it as it is then."""
        began = time.monotonic()
        pod = self._watch.get(pod_name)

        def is_decided() -> bool:
            nonlocal pod
            pod = self._watch.get(pod_name)
            return pod is None or pod.ready or pod.hopeless or pod.over or pod.unplaced

        if not is_decided():
            self._watch.wait(is_decided, self._seconds)
            LOG.info("Pod %s was waited for for %.1f s.", pod_name, time.monotonic() - began)
        if pod is None:
            raise OrchestratorError("The pod was deleted before it was ready.")
        if (pod.ready and not pod.over) or pod.unplaced:
            return pod
        reason = pod.waiting or pod.loss or events.last(self._client, pod_name)
        kind = OrchestratorHopeless if pod.hopeless else OrchestratorError
        raise kind(f"A pod did not get ready. {reason}".strip())
