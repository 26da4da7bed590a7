# SPDX-License-Identifier: Apache-2.0
"""What the cluster tells of a pod whose own status does not say why it does not start."""

from __future__ import annotations

from qinling_exec.orchestrator.kubernetes.client import Client


def last(client: Client, pod_name: str) -> str:
    """Return the last warning about a pod, as the cluster worded it.

    Without one, the last that happened: an image may just be looked for. Empty: nothing did.
    """
    found = client.request("GET", client.path("events"),
                           fieldSelector=f"involvedObject.name={pod_name}")
    events = sorted(found["items"], key=lambda item: (
        item.get("type") == "Warning",
        str(item.get("lastTimestamp") or item.get("eventTime") or "")))
    return str(events[-1].get("message", "")) if events else ""
