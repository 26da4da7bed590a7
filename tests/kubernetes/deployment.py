# SPDX-License-Identifier: Apache-2.0
"""The shipped manifests, applied to the test's cluster: API and engine in pods."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import yaml

from tests.kubernetes.cluster import Cluster

SYSTEM, WORKERS = "qinling-exec-system", "qinling-exec"
SHIPPED = pathlib.Path(__file__).parents[2] / "etc" / "qinling_exec" / "kubernetes"


class Deployment:
    """A kustomization on top of the shipped one, as an operator writes it.

    :param folder: for the kustomization, and for the packages.
    :param database: SQLAlchemy URL of an empty database, as pods reach it.
    """

    def __init__(self, cluster: Cluster, folder: pathlib.Path, image: str,
                 database: str) -> None:
        self.cluster = cluster
        self._folder = folder / "mine"
        shutil.copytree(SHIPPED, folder / "shipped")
        packages = folder / "packages"
        packages.mkdir()
        for path in (packages, *packages.parents):  # the pods' user is another one
            if path.owner() == folder.owner() and path != pathlib.Path("/"):
                path.chmod(path.stat().st_mode | 0o011)
        packages.chmod(0o777)
        self._write(image, database, packages)

    def apply(self) -> None:
        """Do ``kubectl apply -k``, and wait until everything is ready."""
        self.cluster.kubectl("apply", "-k", str(self._folder))
        self.cluster.kubectl("-n", SYSTEM, "wait", "--for=condition=complete",
                             "job/qinling-exec-db-sync", "--timeout=300s", seconds=330)
        for name in ("api", "engine"):
            self.await_rollout(name)

    def await_rollout(self, name: str) -> None:
        """Wait until a Deployment is what was applied."""
        self.cluster.kubectl("-n", SYSTEM, "rollout", "status",
                             f"deployment/qinling-exec-{name}", "--timeout=300s", seconds=330)

    def restart(self, name: str) -> None:
        """Replace the pods of a Deployment, one after the other."""
        self.cluster.kubectl("-n", SYSTEM, "rollout", "restart",
                             f"deployment/qinling-exec-{name}")
        self.await_rollout(name)

    def url(self) -> str:
        """Return where the API's Service is."""
        service = self.cluster.get("-n", SYSTEM, "service", "qinling-exec-api")
        return f"http://{service['spec']['clusterIP']}"

    def told(self) -> str:
        """Return what pods and events tell, for whoever reads a failure."""
        parts = [self.cluster.kubectl("get", "pods,events", "-n", namespace, check=False)
                 for namespace in (SYSTEM, WORKERS)]
        parts += [self.cluster.kubectl("-n", SYSTEM, "logs", "--tail=60", "-l",
                                       f"app.kubernetes.io/component={name}", check=False)
                  for name in ("db-sync", "api", "engine")]
        return "\n".join(parts)

    def remove(self) -> None:
        """Delete all of it; workers have no owner left that could keep them."""
        for namespace in (SYSTEM, WORKERS):
            self.cluster.kubectl("-n", namespace, "delete", "deployments,jobs", "--all",
                                 "--wait=false", check=False)
            self.cluster.kubectl("-n", namespace, "delete", "pods", "--all", "--grace-period=0",
                                 "--force", "--wait=false", check=False)
        self.cluster.kubectl("delete", "namespace", SYSTEM, WORKERS, "--ignore-not-found",
                             "--timeout=300s", seconds=330)
        self.cluster.kubectl("delete", "persistentvolume", "qinling-exec-packages",
                             "--ignore-not-found", "--timeout=60s", seconds=90)

    def _write(self, image: str, database: str, packages: pathlib.Path) -> None:
        self._folder.mkdir()
        configuration = (SHIPPED / "base" / "qinling_exec.conf").read_text()
        configuration = configuration.replace("auth_strategy = keystone", "auth_strategy = noauth")
        configuration = configuration.replace(
            "[api]\n", "[api]\nprocesses = 1\ninsecure_noauth_everywhere = true\n")
        configuration = configuration.replace(
            "[kubernetes]\n", "[kubernetes]\npool_replicas = 1\n")
        (self._folder / "qinling_exec.conf").write_text(configuration)
        name, _, tag = image.rpartition(":")
        volume = {
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "qinling-exec-packages"},
            "spec": {"capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteMany"],
                     "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
                     "hostPath": {"path": str(packages), "type": "Directory"}}}
        (self._folder / "volume.yaml").write_text(yaml.safe_dump(volume))
        claim = [{"op": "add", "path": "/spec/storageClassName", "value": ""},
                 {"op": "add", "path": "/spec/volumeName", "value": "qinling-exec-packages"}]
        kustomization: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
            "resources": ["../shipped/base", "volume.yaml"],
            "images": [{"name": "qinling-exec-service", "newName": name, "newTag": tag},
                       {"name": "node.local/qinling-exec-service", "newName": name,
                        "newTag": tag}],
            "configMapGenerator": [{"name": "qinling-exec", "namespace": SYSTEM,
                                    "behavior": "replace", "files": ["qinling_exec.conf"]}],
            "secretGenerator": [{"name": "qinling-exec", "namespace": SYSTEM, "literals": [
                f"OS_DATABASE__CONNECTION={database}"]}],
            "patches": [{"target": {"kind": "PersistentVolumeClaim"},
                         "patch": json.dumps(claim)}],
        }
        (self._folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
