# SPDX-License-Identifier: Apache-2.0
"""A copy of the service's pods, kept up to date by one list and one watch."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from qinling_exec.orchestrator.base import OrchestratorError, OrchestratorUnavailable
from qinling_exec.orchestrator.kubernetes import names, seen
from qinling_exec.orchestrator.kubernetes.client import ApiError, Client, Object
from qinling_exec.orchestrator.kubernetes.seen import Pod

LOG = logging.getLogger(__name__)
#: Pods of one answer to a list: as objects they take ten times the memory of its text, for good.
_PAGE = 100
#: That the first list may take, in seconds.
_LIST_SECONDS = 10.0
#: The cluster ends a watch after so many seconds; it is begun again where it ended.
_WATCH_SECONDS = 300
#: So many lists in a row may be older than what was seen before: then the cluster was set back.
_STALE_LISTS = 5
#: Between attempts, in seconds: the first, and the longest.
_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_Change = Callable[[str, Pod | None], None]


class Gone(Exception):
    """The cluster does not remember the version from which the watch was to go on."""


class Watch:
    """The pods of the service in the namespace.

    :param on_change: called with each pod's name and what it is now, None when it is gone; in the
        watch's thread, without a lock.
    """

    def __init__(self, client: Client, on_change: _Change) -> None:
        self._client = client
        self._on_change = on_change
        self._path = client.path("pods")
        self._changed = threading.Condition()  # with a lock that a condition may take again
        self._pods: dict[str, Pod] = {}
        self._version = ""
        self._complete = False
        self._stale = 0
        self._refusal = ""
        self._stop = threading.Event()
        self._current = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pods", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the thread goes when its connection does."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def current(self) -> bool:
        """True when the copy was complete once and the cluster answers."""
        return self._current.is_set()

    def await_current(self) -> None:
        """Wait until the copy is complete.

        :raises OrchestratorUnavailable: it does not become so.
        """
        if not self._current.wait(_LIST_SECONDS):
            raise OrchestratorUnavailable(f"The cluster can't be reached. {self._refusal}".strip())

    def all(self) -> list[Pod]:
        """Return all pods."""
        with self._changed:
            return list(self._pods.values())

    def get(self, name: str) -> Pod | None:
        """Return a pod."""
        with self._changed:
            return self._pods.get(name)

    def learn(self, found: Object) -> Pod:
        """Note what the cluster answered about a pod before the watch says so."""
        pod = seen.read(found)
        self._put(pod)
        return pod

    def refresh(self, name: str) -> Pod | None:
        """Ask the cluster about a pod; None: there is none.

        :raises OrchestratorError: it does not say.
        """
        try:
            return self.learn(self._client.request("GET", self._client.path("pods", name)))
        except ApiError as error:
            if error.status != 404:
                raise
            self._drop(name)
            return None

    def forget(self, name: str) -> None:
        """Note that the cluster knows no such pod."""
        self._drop(name)

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is so that only changes with the pods; it is called with a lock."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop.is_set() or condition(), seconds)
            return condition()

    def _loop(self) -> None:
        pause = _PAUSE
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                if not self._complete:
                    self._list()
                self._follow()
            except Gone:
                LOG.info("The watch of pods lost its thread and begins anew.")
                self._complete = False
                continue
            except OrchestratorError as error:
                self._current.clear()
                self._refusal = ""
                if isinstance(error, ApiError):
                    self._complete, self._refusal = False, str(error)
                LOG.warning("The pods can't be watched for now: %s", error)
            except Exception:
                self._current.clear()
                self._complete = False
                LOG.exception("The pods can't be watched for now.")
            else:
                if time.monotonic() - began > _PAUSE:
                    pause = _PAUSE
                    continue
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = _PAUSE
            self._stop.wait(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _list(self) -> None:
        """Read all pods anew; what is not among them is gone."""
        found: dict[str, Pod] = {}
        params: dict[str, Any] = {"labelSelector": names.SELECTOR, "limit": _PAGE}
        while True:
            page = self._client.request("GET", self._path, **params)
            found |= {pod.name: pod for pod in map(seen.read, page["items"])}
            if not page["metadata"].get("continue"):
                break
            params["continue"] = page["metadata"]["continue"]
        version = page["metadata"]["resourceVersion"]
        is_stale = _is_older(version, self._version)
        if is_stale and self._stale < _STALE_LISTS:
            self._stale += 1
            raise OrchestratorUnavailable("The cluster's list of pods is out of date.")
        for pod in self.all():
            # One that was made since, and learned of otherwise, could not be in the list.
            is_newer = not is_stale and _is_older(version, pod.version)
            if pod.name not in found and not is_newer:
                self._drop(pod.name)
        for pod in found.values():
            self._put(pod)
        self._version, self._complete, self._stale = version, True, 0

    def _follow(self) -> None:
        """Take in what happens until the cluster ends the watch."""
        pieces = self._client.stream(
            self._path, watch="true", labelSelector=names.SELECTOR, allowWatchBookmarks="true",
            resourceVersion=self._version, timeoutSeconds=_WATCH_SECONDS)
        try:
            next(pieces)
            self._current.set()
            for line in _lines(pieces):
                if self._stop.is_set():
                    return
                self._take_in(json.loads(line))
        except ApiError as error:
            if error.status == 410:
                raise Gone from error
            raise

    def _take_in(self, event: Object) -> None:
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            if found.get("code") == 410:
                raise Gone
            raise ApiError(found.get("code", 0), found.get("message", ""))
        self._version = found["metadata"]["resourceVersion"]
        if kind == "DELETED":
            self._drop(found["metadata"]["name"])
        elif kind != "BOOKMARK":
            self._put(seen.read(found))

    def _put(self, pod: Pod) -> None:
        with self._changed:
            known = self._pods.get(pod.name)
            if known is not None and _is_older(pod.version, known.version):
                return
            self._pods[pod.name] = pod
            self._changed.notify_all()
        self._on_change(pod.name, pod)

    def _drop(self, name: str) -> None:
        with self._changed:
            self._pods.pop(name, None)
            self._changed.notify_all()
        self._on_change(name, None)


def _is_older(one: str, other: str) -> bool:
    """Compare versions of one object; since Kubernetes 1.35 they are promised to be numbers."""
    return one.isdigit() and other.isdigit() and int(one) < int(other)


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(None, lines)
