# SPDX-License-Identifier: Apache-2.0
"""Room for pods in the cluster: whether some will come without anybody's doing."""

from __future__ import annotations

from qinling_exec.orchestrator.kubernetes.watch import Watch


def comes(watch: Watch, name: str) -> bool:
    """Tell whether pods other than this one will give theirs back.

    Those that are about to go do, and runs of images, which all end by their timeouts. A worker
    may stay for as long as its function is used.
    """
    return any(pod.leaving or (pod.run is not None and pod.run.accepted is not None)
               for pod in watch.all() if pod.name != name)
