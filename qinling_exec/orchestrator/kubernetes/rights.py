# SPDX-License-Identifier: Apache-2.0
"""What an engine has to be allowed to do in the workers' namespace: what the shipped Role says."""

from __future__ import annotations

from qinling_exec.orchestrator.kubernetes.client import Client

#: Verbs by group and resource.
NEEDED = {
    ("", "pods"): ("get", "list", "watch", "create", "patch", "delete"),
    ("", "pods/resize"): ("patch",),
    ("", "pods/log"): ("get",),
    ("", "events"): ("list",),
    ("apps", "deployments"): ("get", "create", "patch", "delete"),
}
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def missing(client: Client) -> list[str]:
    """Return what the caller may not do, as "patch pods/resize"; the cluster is asked for each.

    :raises OrchestratorError: it does not say.
    """
    return [f"{verb} {resource}" for (group, resource), verbs in NEEDED.items()
            for verb in verbs if not _may(client, group, resource, verb)]


def _may(client: Client, group: str, resource: str, verb: str) -> bool:
    name, _, part = resource.partition("/")
    review = client.request("POST", _REVIEWS, {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "namespace": client.namespace, "group": group, "resource": name, "subresource": part,
            "verb": verb}}})
    return bool(review["status"].get("allowed"))
