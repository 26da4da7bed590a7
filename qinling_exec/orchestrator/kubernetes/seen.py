# SPDX-License-Identifier: Apache-2.0
"""Pods as the cluster shows them, cut down to what matters: thousands are kept in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qinling_exec.orchestrator.base import Attempt
from qinling_exec.orchestrator.kubernetes import names
from qinling_exec.orchestrator.kubernetes.client import Object

#: Why a container does not start, where waiting would not help.
_HOPELESS = frozenset({
    "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
    "CreateContainerConfigError", "CrashLoopBackOff",
})
#: What the scheduler says where a pod would have a place if others went,
_CROWDED = ("Insufficient ", "Too many pods")
#: and where it would not, since it asks for more than any node has.
_TOO_LARGE = re.compile(r"preemption: 0/\d+ nodes are available:"
                        r" \d+ Preemption is not helpful for scheduling\.?$")
#: Why a worker is none any more, where the cluster says nothing else.
DELETED = "its pod was deleted"
_ENDS = {
    "Evicted": "its pod was evicted",
    "EvictionByEvictionAPI": "its pod was evicted",
    "PreemptionByScheduler": "its pod made way for another one",
    "DeletionByTaintManager": "its node was lost",
    "DeletionByPodGC": "its node was lost",
    "NodeLost": "its node was lost",
}


@dataclass(frozen=True, slots=True)
class Run:
    """The run of an image that a pod is; times are seconds since 1970 by the node's clock.

    :param timeout: seconds that the program may run.
    :param log_begin: bytes of log from earlier attempts.
    :param created: when the cluster was asked for the pod.
    :param accepted: when the node accepted the pod.
    :param deadline: seconds after that at which the node ends it.
    :param began: when the program started, None: it has not.
    :param exit_code: None: it has not ended.
    :param cause: why it ended, in one of the cluster's words.
    :param words: what else the cluster says of it.
    :param told: when it was told to end, by the cluster or by whoever deleted its pod; None: it
        was not.
    :param forced: its pod was deleted without waiting for what its node says.
    """

    attempt: Attempt
    timeout: int
    log_begin: int
    created: float
    accepted: float | None
    deadline: int
    began: float | None
    ended: float | None
    exit_code: int | None
    cause: str
    words: str
    told: float | None
    forced: bool

    @property
    def cut(self) -> bool:
        """True when it ended after it was told to, so that nobody knows what it left undone."""
        return self.told is not None and (self.ended is None or self.ended >= self.told)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod.

    :param address: IP address, empty when it has none yet.
    :param waiting: why it has not started, as far as the cluster says.
    :param start_seconds: from its creation until it was ready, in whole seconds; None: it is not.
    :param hopeless: waiting longer would not help.
    :param reason: why the whole pod failed: ``Evicted``, ``DeadlineExceeded``, ``NodeLost``.
    :param loss: why it is no worker any more, if it was one; a server that was started anew has
        forgotten all.
    """

    name: str
    version: str
    owned: bool
    pool: str | None
    runtime: str | None
    worker: str | None
    template: str | None
    address: str
    phase: str
    ready: bool
    start_seconds: float | None
    leaving: bool
    restarts: int
    waiting: str
    hopeless: bool
    reason: str
    message: str
    loss: str
    run: Run | None

    @property
    def over(self) -> bool:
        """True when a taken pod is no worker any more."""
        return bool(self.loss)

    @property
    def free(self) -> bool:
        """True when it is a generic worker that can be taken now."""
        return (self.pool is not None and self.ready and not self.leaving
                and self.phase == "Running")

    @property
    def unplaced(self) -> bool:
        """True when no node has room for it."""
        return (self.phase == "Pending" and not self.leaving
                and self.waiting.startswith("Unschedulable"))

    @property
    def misplaced(self) -> bool:
        """True when no node would take it even if nothing else ran there: taints, labels, size.

        A cluster that does not tell the size apart lets it wait as if there were no room now.
        """
        return self.unplaced and (not any(words in self.waiting for words in _CROWDED)
                                  or _TOO_LARGE.search(self.waiting) is not None)

    @property
    def coming(self) -> bool:
        """True when it will be a generic worker, as far as anybody can tell."""
        return (self.pool is not None and not (self.ready or self.leaving or self.waiting)
                and self.phase in ("Pending", "Running") and not self.over)


def read(found: Object) -> Pod:
    """Return what matters of a pod."""
    metadata, status = found["metadata"], found.get("status", {})
    labels = metadata.get("labels", {})
    containers = status.get("containerStatuses") or [{}]
    state = containers[0].get("state") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    waiting, hopeless = _waiting(state.get("waiting"), conditions)
    restarts, reason = containers[0].get("restartCount", 0), _reason(status, conditions)
    ended = state.get("terminated")
    if restarts > _whole(labels, names.RESTARTS):
        ended = ended or (containers[0].get("lastState") or {}).get("terminated") or {}
    leaving = "deletionTimestamp" in metadata
    over = (leaving or ended is not None or bool(reason)
            or status.get("phase") in ("Failed", "Succeeded"))
    return Pod(
        name=metadata["name"], version=metadata["resourceVersion"],
        owned=bool(metadata.get("ownerReferences")),
        pool=labels.get(names.POOL), runtime=labels.get(names.RUNTIME),
        worker=labels.get(names.WORKER), template=labels.get(names.TEMPLATE),
        address=status.get("podIP") or "",
        phase=status.get("phase", "Pending"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        start_seconds=_start_seconds(found, conditions.get("Ready", {})),
        leaving=leaving, restarts=restarts, waiting=waiting, hopeless=hopeless, reason=reason,
        message=status.get("message") or "",
        loss=_loss(reason, status.get("message") or "", ended) if over else "",
        run=_run(found, state) if names.EXECUTION in labels else None,
    )


def _run(found: Object, state: Object) -> Run:
    metadata, status = found["metadata"], found.get("status", {})
    notes = metadata.get("annotations", {})
    ended = state.get("terminated") or {}
    return Run(
        attempt=(metadata["labels"][names.EXECUTION], _whole(metadata["labels"], names.ATTEMPT)),
        timeout=_whole(notes, names.TIMEOUT), log_begin=_whole(notes, names.LOG_BEGIN),
        created=_time(metadata.get("creationTimestamp")) or 0.0,
        accepted=_time(status.get("startTime")),
        deadline=int(found["spec"].get("activeDeadlineSeconds") or 0),
        began=_time((ended or state.get("running") or {}).get("startedAt")),
        ended=_time(ended.get("finishedAt")),
        exit_code=ended.get("exitCode"), cause=ended.get("reason") or "",
        words=ended.get("message") or "", told=_told(found),
        forced=("deletionTimestamp" in metadata and not ended
                and not metadata.get("deletionGracePeriodSeconds")),
    )


def _told(found: Object) -> float | None:
    """Return when a pod was told to end; the time of a deletion is that of its last moment."""
    metadata, conditions = found["metadata"], found.get("status", {}).get("conditions") or ()
    times = [_time(item.get("lastTransitionTime")) for item in conditions
             if item["type"] == "DisruptionTarget" and item["status"] == "True"]
    last = _time(metadata.get("deletionTimestamp"))
    if last is not None:
        times.append(last - _whole(metadata, "deletionGracePeriodSeconds"))
    return min((one for one in times if one is not None), default=None)


def _whole(found: Object, name: str) -> int:
    """Return a number; a pod that somebody else made must not end the watch."""
    try:
        return int(found[name])
    except (KeyError, ValueError):
        return 0


def _time(text: str | None) -> float | None:
    """Return a time; what never was the cluster puts at the beginning of 1970, if anywhere."""
    return (datetime.fromisoformat(text).timestamp() or None) if text else None


def _start_seconds(found: Object, ready: Object) -> float | None:
    """Return how long a pod took to be ready."""
    created, since = (_time(found["metadata"].get("creationTimestamp")),
                      _time(ready.get("lastTransitionTime")))
    if ready.get("status") != "True" or created is None or since is None:
        return None
    return max(0.0, since - created)


def _waiting(state: Object | None, conditions: dict[str, Any]) -> tuple[str, bool]:
    if state and state.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        text = f"{state['reason']}: {state.get('message', '')}".strip(": ")
        return text, state["reason"] in _HOPELESS
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        text = f"{scheduled.get('reason', '')}: {scheduled.get('message', '')}"
        return text.strip(": "), False
    return "", False


def _reason(status: Object, conditions: dict[str, Any]) -> str:
    """Return why the cluster ended a pod."""
    if status.get("reason"):
        return str(status["reason"])
    found = conditions.get("DisruptionTarget", {})
    return str(found.get("reason", "")) if found.get("status") == "True" else ""


def _loss(reason: str, message: str, ended: Object | None) -> str:
    """Return in words why a pod is no worker any more."""
    if ended and ended.get("reason") == "OOMKilled":
        return "its pod had no memory left (OOMKilled)"
    if reason:
        text = f"{_ENDS.get(reason, 'the cluster ended its pod')} ({reason})"
        return f"{text}: {message}".rstrip(". \n") if message else text
    if ended is not None:
        return f"its server ended with exit code {ended.get('exitCode', 'unknown')}"
    return DELETED
