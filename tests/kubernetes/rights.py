# SPDX-License-Identifier: Apache-2.0
"""The rights of an engine: those of the Role that the project ships, and no others.

Engines of tests have a service account with it; the tests themselves are the cluster's owner.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.cluster import Cluster

_ROLE = Path(__file__).parents[2] / "etc/qinling_exec/kubernetes/base/role.yaml"
_API = "rbac.authorization.k8s.io"
#: Group, resource, verb.
Right = tuple[str, str, str]


def of(rules: list[dict[str, Any]]) -> set[Right]:
    """Return rules one by one."""
    return {(group, resource, verb) for rule in rules for group in rule["apiGroups"]
            for resource in rule["resources"] for verb in rule["verbs"]}


def shipped() -> set[Right]:
    """Return the rights of the Role that the project ships."""
    documents = yaml.safe_load_all(_ROLE.read_text(encoding="utf-8"))
    return of(next(item["rules"] for item in documents if item["kind"] == "Role"))


@dataclass
class Access:
    """Service accounts of a namespace, each with rights of its own there and none elsewhere."""

    cluster: Cluster
    namespace: str
    folder: Path
    _tokens: dict[str, str] = field(default_factory=dict)

    def give(self, accounts: dict[str, set[Right]]) -> None:
        """Make service accounts."""
        self.cluster.apply(*[made for name, rights in accounts.items()
                             for made in self._objects(name, rights)], namespace=self.namespace)

    def token(self, account: str) -> str:
        """Return what a service account shows."""
        if account not in self._tokens:
            self._tokens[account] = self.cluster.kubectl(
                "-n", self.namespace, "create", "token", account).strip()
        return self._tokens[account]

    def kubeconfig(self, account: str) -> Path:
        """Write a file that leads to the cluster as a service account."""
        path = self.folder / f"{account}.kubeconfig"
        owner = Path(self.cluster.environment["KUBECONFIG"])
        config = yaml.safe_load(owner.read_text("utf-8"))
        about = config["clusters"][0]["cluster"]
        if "certificate-authority" in about:
            data = (owner.parent / about.pop("certificate-authority")).read_bytes()
            about["certificate-authority-data"] = base64.b64encode(data).decode()
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": about}],
            "users": [{"name": "c", "user": {"token": self.token(account)}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}), "utf-8")
        return path

    def _objects(self, name: str, rights: set[Right]) -> list[dict[str, Any]]:
        about = {"name": name}
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about},
            {"apiVersion": f"{_API}/v1", "kind": "Role", "metadata": about, "rules": [
                {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                for group, resource, verb in sorted(rights)]},
            {"apiVersion": f"{_API}/v1", "kind": "RoleBinding", "metadata": about,
             "roleRef": {"apiGroup": _API, "kind": "Role", "name": name},
             "subjects": [{"kind": "ServiceAccount", "name": name,
                           "namespace": self.namespace}]},
        ]
