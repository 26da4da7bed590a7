# SPDX-License-Identifier: Apache-2.0
"""Functions made of an image: each attempt of an execution is one bare pod."""

from __future__ import annotations

import threading
from collections.abc import Callable

from qinling_exec import faultpoint
from qinling_exec.orchestrator.base import (
    Attempt,
    ImageEnd,
    ImageRun,
    OrchestratorError,
    OrchestratorFull,
    OrchestratorUnavailable,
)
from qinling_exec.orchestrator.kubernetes import names, pods, room
from qinling_exec.orchestrator.kubernetes.client import ApiError, Client
from qinling_exec.orchestrator.kubernetes.following import Following
from qinling_exec.orchestrator.kubernetes.watch import Watch

#: That the end of a pod may take, in seconds.
_END_SECONDS = 15.0


class PodImages:
    """Runs images in pods of one namespace.

    :param start_seconds: within which a program must have started.
    """

    def __init__(self, client: Client, watch: Watch, shape: pods.Shape,
                 start_seconds: int) -> None:
        self._client = client
        self._watch = watch
        self._shape = shape
        self._start_seconds = start_seconds
        #: Called when a pod is gone.
        self.on_room: Callable[[], object] = lambda: None

    @property
    def ready(self) -> bool:
        """True while the cluster answers."""
        return self._watch.current

    def begin(self, run: ImageRun) -> None:
        """Have a pod made; one that is there already is it."""
        self._watch.await_current()
        wanted = pods.run(self._shape, run, self._start_seconds)
        name = wanted["metadata"]["name"]
        try:
            self._watch.learn(self._client.request("POST", self._client.path("pods"), wanted))
        except ApiError as error:
            if error.is_quota:
                moves = room.comes(self._watch, name, room.never_comes(str(error)))
                raise OrchestratorFull(str(error), moves) from error
            if error.status != 409:
                raise
            self._watch.refresh(name)
        faultpoint.reach("posted")

    def waiting(self) -> set[Attempt]:
        """Return the attempts whose pods no node has room for, until others make way."""
        return {pod.run.attempt for pod in self._watch.all()
                if pod.run and pod.unplaced and not pod.misplaced}

    def listen(self, on_room: Callable[[], object]) -> None:
        """Have something called whenever a pod is gone."""
        self.on_room = on_room

    def log_begin(self, attempt: Attempt) -> int | None:
        """Look for an attempt's pod."""
        if not self._watch.current:  # who asks has other things to do, and comes again
            raise OrchestratorUnavailable("The cluster can't be reached.")
        name = names.run(*attempt)
        # That there is none the cluster itself has to say.
        pod = self._watch.get(name) or self._watch.refresh(name)
        return pod.run.log_begin if pod is not None and pod.run is not None else None

    def follow(self, attempt: Attempt, on_log: Callable[[bytes], bool], skip: int,
               left: threading.Event) -> ImageEnd | None:
        """Look at a pod until it has ended."""
        following = Following(self._client, self._watch, names.run(*attempt),
                              self._start_seconds, on_log, skip)
        return following.until_end(left)

    def end(self, attempt: Attempt) -> None:
        """Delete an attempt's pod."""
        name = names.run(*attempt)
        try:
            self._client.request("DELETE", self._client.path("pods", name))
        except ApiError as error:
            if error.status != 404:
                raise
            self._watch.forget(name)
        if not self._watch.wait(lambda: self._watch.get(name) is None, _END_SECONDS):
            raise OrchestratorError(f"Pod {name} does not end.")

    def all(self) -> set[Attempt] | None:
        """Return the attempts that have pods."""
        if not self._watch.current:
            return None
        return {pod.run.attempt for pod in self._watch.all() if pod.run is not None}
