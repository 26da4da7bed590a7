# SPDX-License-Identifier: Apache-2.0
"""Pods as the cluster shows them, cut down to what matters: thousands are kept in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qinling_exec.orchestrator.kubernetes import names
from qinling_exec.orchestrator.kubernetes.client import Object

#: Why a container does not start, where waiting would not help.
_HOPELESS = frozenset({
    "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
    "CreateContainerConfigError", "CrashLoopBackOff",
})


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod.

    :param address: IP address, empty when it has none yet.
    :param waiting: why it has not started, as far as the cluster says.
    :param hopeless: waiting longer would not help.
    :param reason: why the whole pod failed: ``Evicted``, ``DeadlineExceeded``, ``NodeLost``.
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
    leaving: bool
    restarts: int
    waiting: str
    hopeless: bool
    reason: str
    message: str

    @property
    def over(self) -> bool:
        """True when a taken pod is no worker any more; a server that was restarted forgot all."""
        return (self.leaving or self.restarts > 0 or self.phase in ("Failed", "Succeeded"))

    @property
    def free(self) -> bool:
        """True when it is a generic worker that can be taken now."""
        return (self.pool is not None and self.ready and not self.leaving
                and self.phase == "Running")


def read(found: Object) -> Pod:
    """Return what matters of a pod."""
    metadata, status = found["metadata"], found.get("status", {})
    labels = metadata.get("labels", {})
    containers = status.get("containerStatuses") or [{}]
    state = containers[0].get("state") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    waiting, hopeless = _waiting(state.get("waiting"), conditions)
    return Pod(
        name=metadata["name"], version=metadata["resourceVersion"],
        owned=bool(metadata.get("ownerReferences")),
        pool=labels.get(names.POOL), runtime=labels.get(names.RUNTIME),
        worker=labels.get(names.WORKER), template=labels.get(names.TEMPLATE),
        address=status.get("podIP") or "",
        phase=status.get("phase", "Pending"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        leaving="deletionTimestamp" in metadata,
        restarts=containers[0].get("restartCount", 0), waiting=waiting, hopeless=hopeless,
        reason=status.get("reason") or _disruption(conditions),
        message=status.get("message") or "",
    )


def _waiting(state: Object | None, conditions: dict[str, Any]) -> tuple[str, bool]:
    if state and state.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        text = f"{state['reason']}: {state.get('message', '')}".strip(": ")
        return text, state["reason"] in _HOPELESS
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        text = f"{scheduled.get('reason', '')}: {scheduled.get('message', '')}"
        return text.strip(": "), False
    return "", False


def _disruption(conditions: dict[str, Any]) -> str:
    """Return why the cluster ended a pod, where its status does not say so itself."""
    found = conditions.get("DisruptionTarget", {})
    return str(found.get("reason", "")) if found.get("status") == "True" else ""
