# SPDX-License-Identifier: Apache-2.0
"""What the cluster warned of, where a pod's own status does not say why it does not start."""

from __future__ import annotations

from qinling_exec.orchestrator.kubernetes.client import Client


def last_warning(client: Client, pod_name: str) -> str:
    """Return the last warning about a pod, as the cluster worded it; empty when there is none."""
    found = client.request("GET", client.path("events"),
                           fieldSelector=f"involvedObject.name={pod_name},type=Warning")
    events = sorted(found["items"], key=lambda item: str(
        item.get("lastTimestamp") or item.get("eventTime") or ""))
    return str(events[-1].get("message", "")) if events else ""
