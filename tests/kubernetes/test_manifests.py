# SPDX-License-Identifier: Apache-2.0
"""The shipped manifests that test_deployment does not apply."""

from __future__ import annotations

import pathlib
import shutil

import yaml

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.deployment import SHIPPED, SYSTEM


def test_the_autoscaler_scales_the_api(cluster: Cluster, namespace: str,
                                       tmp_path: pathlib.Path) -> None:
    """Its component goes on top of the rest, and the cluster takes it."""
    shutil.copytree(SHIPPED, tmp_path / "shipped")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(
        "resources: [../shipped/base]\ncomponents: [../shipped/autoscaling]\n")
    found = {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(
        cluster.kubectl("kustomize", str(tmp_path / "mine")))}
    scaler = found["HorizontalPodAutoscaler", "qinling-exec-api"]
    assert scaler["metadata"]["namespace"] == SYSTEM
    target = scaler["spec"]["scaleTargetRef"]
    scaled = found[target["kind"], target["name"]]
    assert "replicas" not in scaled["spec"], "each apply would set it back"
    assert scaled["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    scaler["metadata"]["namespace"] = namespace
    (tmp_path / "scaler.yaml").write_text(yaml.safe_dump(scaler))
    cluster.kubectl("create", "-f", str(tmp_path / "scaler.yaml"))
    try:
        stored = cluster.get("-n", namespace, "hpa", "qinling-exec-api")
        assert stored["spec"]["maxReplicas"] == 10
    finally:
        cluster.kubectl("-n", namespace, "delete", "hpa", "qinling-exec-api")
