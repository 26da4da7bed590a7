# SPDX-License-Identifier: Apache-2.0
"""Names and labels by which the service knows its objects in the cluster again."""

from __future__ import annotations

MANAGED, MANAGER = "app.kubernetes.io/managed-by", "qinling-exec"
#: Of generic pods: the runtime whose pool they are in. A taken one has it no more.
POOL = "qinling-exec/pool"
#: Of taken pods: the runtime, and the worker that they are.
RUNTIME, WORKER = "qinling-exec/runtime", "qinling-exec/worker"
#: Of taken pods: how often their container had been started anew before.
RESTARTS = "qinling-exec/restarts"
#: Of all pods of a runtime: what they were made like; another one is outdated.
TEMPLATE = "qinling-exec/template"
#: Of pods that run an image: the execution and the attempt.
EXECUTION, ATTEMPT = "qinling-exec/execution", "qinling-exec/attempt"
#: Annotations of these: the function's timeout, and the bytes of log from earlier attempts.
TIMEOUT, LOG_BEGIN = "qinling-exec/timeout", "qinling-exec/log-begin"
#: Annotation of pools: when an engine has seen to them last, in seconds since 1970.
ASKED = "qinling-exec/asked"
SELECTOR = f"{MANAGED}={MANAGER}"


def pool(runtime_id: str) -> str:
    """Return the name of a runtime's Deployment."""
    return f"qx-pool-{runtime_id}"


def run(execution_id: str, attempt: int) -> str:
    """Return the name of the pod of an attempt."""
    return f"qx-run-{execution_id}-{attempt}"


def pointer(label: str) -> str:
    """Return the JSON pointer of a label in an object."""
    return "/metadata/labels/" + label.replace("~", "~0").replace("/", "~1")
