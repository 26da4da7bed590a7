# SPDX-License-Identifier: Apache-2.0
"""Measures an engine that watches pods: ``python -m tests.benchmarks.bench_watch [SECONDS]``.

Its memory, and its processor time when nothing is to be done, by how many pods there are and how
many of them change in a second. The API server that it watches is a fake: it replays one pod that
the real cluster described (with everything in it, managed fields too) under many names, because a
node has no room for a thousand. One is recorded first, so it needs what tests/kubernetes needs.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

from tests import databases
from tests.benchmarks.bench_sizing import mib
from tests.benchmarks.recorded_pods import RecordedPods
from tests.functional.deployment import Deployment
from tests.kubernetes import cluster as clusters
from tests.kubernetes.cluster import Cluster

#: Pods, and changes of them in a second.
_CASES = ((1, 0.0), (1000, 0.0), (1000, 20.0), (5000, 0.0))
#: Until an engine that has just started is at rest.
_REST_SECONDS = 15.0


def _record(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return a warm pod as the cluster's API shows it to an engine."""
    found = json.loads(cluster.kubectl(
        "get", "--raw", f"/api/v1/namespaces/{namespace}/pods?limit=1"))["items"][0]
    return dict(found)


def _cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measure(deployment: Deployment, pod: dict[str, Any], count: int, changes: float,
             seconds: float) -> None:
    server = RecordedPods(pod, count, changes)
    try:
        before = deployment.config.read_text()
        lines = [line for line in before.splitlines() if not line.startswith("kubeconfig")]
        lines.insert(lines.index("[kubernetes]") + 1,
                     f"kubeconfig = {server.kubeconfig(deployment.folder)}")
        deployment.config.write_text("\n".join(lines) + "\n")
        began = time.monotonic()
        engine = deployment.start_engine()
        ready = time.monotonic() - began
        time.sleep(_REST_SECONDS)
        begin = _cpu_seconds(engine.pid)
        time.sleep(seconds)
        share = (_cpu_seconds(engine.pid) - begin) / seconds * 100
        print(f"{count:6}{changes:18.0f}{mib(engine.pid):12.1f}{share:18.2f}{ready:10.1f}",
              flush=True)
        engine.stop()
    finally:
        server.close()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    cluster = clusters.find()
    image = cluster.image("python3", "qinling_exec/__init__.py", "qinling_exec/runtime")
    namespace = cluster.make_namespace()
    database = databases.start("postgresql")
    try:
        with tempfile.TemporaryDirectory(prefix="qb") as folder, Deployment(
                pathlib.Path(folder), database.new_schema(), image=image, settings={
                    "engine": {"orchestrator": "kubernetes"}, "kubernetes": {
                        "kubeconfig": cluster.environment["KUBECONFIG"],
                        "namespace": namespace, "pool_replicas": 1}}) as deployment:
            pod = _record(cluster, namespace)
            deployment.engines[0].stop()
            print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; a pod has"
                  f" {len(json.dumps(pod))} bytes")
            print(f"{'pods':>6}{'changes a second':>18}{'MiB (PSS)':>12}{'% of a core, idle':>18}"
                  f"{'ready, s':>10}")
            for count, changes in _CASES:
                _measure(deployment, pod, count, changes, seconds)
            print(f"load {os.getloadavg()[0]:.1f}")
    finally:
        cluster.delete_namespace(namespace)
        database.close()


if __name__ == "__main__":
    main()
