# SPDX-License-Identifier: Apache-2.0
"""The rights that the guide names are enough for an engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.functional import processes
from tests.functional.client import output
from tests.functional.deployment import Deployment
from tests.kubernetes.cluster import Cluster

_GUIDE = Path(__file__).parents[2] / "doc/source/admin/kubernetes.rst"
_RIGHT = re.compile(r"^(\(core\)|``apps``) +``([\w/]+)`` +([a-z, ]+)$", re.M)


@pytest.fixture(scope="module")
def engine_kubeconfig(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory,
                      ) -> Path:
    """A kubeconfig of a service account that has the rights of the guide and no others."""
    rules = [{"apiGroups": [group.strip("`") if group != "(core)" else ""],
              "resources": [resource], "verbs": verbs.strip().split(", ")}
             for group, resource, verbs in _RIGHT.findall(_GUIDE.read_text(encoding="utf-8"))]
    assert len(rules) == 4
    about = {"name": "engine"}
    api = "rbac.authorization.k8s.io"
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about},
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": about, "rules": rules},
        {"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": about,
         "roleRef": {"apiGroup": api, "kind": "Role", "name": "engine"},
         "subjects": [{"kind": "ServiceAccount", "name": "engine", "namespace": namespace}]},
        namespace=namespace)
    token = cluster.kubectl("-n", namespace, "create", "token", "engine").strip()
    config = yaml.safe_load(Path(cluster.environment["KUBECONFIG"]).read_text(encoding="utf-8"))
    for user in config["users"]:
        user["user"] = {"token": token}
    path = tmp_path_factory.mktemp("rights") / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_an_engine_works_with_the_rights_of_the_guide(
        deploy: Callable[..., Deployment], engine_kubeconfig: Path, cluster: Cluster,
        namespace: str) -> None:
    deployment = deploy(kubernetes={"kubeconfig": engine_kubeconfig, "pool_replicas": 1})
    api = deployment.api()
    warm = api.function("def main():\n    return 1\n")
    assert output(api.run(warm)) == 1
    large = api.function("def main():\n    return 2\n", memory_size=str(2**27))
    assert output(api.run(large)) == 2, "a pod of its own"
    for function in (warm, large):
        api.ok("DELETE", f"/v1/functions/{function}", 204)
    assert processes.wait_for(lambda: not cluster.get(
        "-n", namespace, "pods", "-l", "qinling-exec/worker")["items"], 60)
    api.ok("DELETE", f"/v1/runtimes/{deployment.runtime}", 204)
    assert processes.wait_for(
        lambda: not cluster.get("-n", namespace, "pods,deployments")["items"], 60)
    assert "forbidden" not in deployment.log()
