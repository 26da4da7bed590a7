# SPDX-License-Identifier: Apache-2.0
"""Measures executions on pods: ``python -m tests.benchmarks.bench_kubernetes [FUNCTIONS]``.

First executions of functions, with a pool that has a pod for them and without one; warm ones,
beside the same on local processes. It needs what tests/kubernetes needs. The load of the machine
is printed: it decides much.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping

from tests import databases
from tests.functional import processes
from tests.functional.client import Api, output
from tests.functional.deployment import Deployment
from tests.kubernetes import cluster as clusters

EMPTY = "def main():\n    pass\n"
WARM = 200
WARMING = 20
#: Counts for so many seconds.
SPIN = """
import time
def main(seconds):
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        count += 1
    return count
"""
#: After a first run, until the resize of its pod is in force.
_RESIZED = 5


def _report(name: str, taken: list[float]) -> None:
    taken.sort()
    print(f"{name:44}{len(taken):5}{taken[len(taken) // 2]:9.1f}"
          f"{taken[len(taken) * 9 // 10]:9.1f}", flush=True)


def _timed(api: Api, function: str) -> float:
    began = time.perf_counter()
    execution = api.run(function)
    taken = (time.perf_counter() - began) * 1000
    assert execution["status"] == "success", execution
    return taken


def _first(deployment: Deployment, count: int, free: int) -> list[float]:
    """Time the first execution of functions, each when the pool is full again."""
    api, taken = deployment.api(), []
    pool = f"/v1/runtimes/{deployment.runtime}/pool"
    for _ in range(count):
        function = api.function(EMPTY)
        assert processes.wait_for(
            lambda: api.ok("GET", pool)["capacity"]["available"] == free, 60)
        taken.append(_timed(api, function))
        api.ok("DELETE", f"/v1/functions/{function}", 204)
    return taken


def _warm(places: Mapping[str, Deployment]) -> None:
    """Measure warm executions of deployments in turns, so that what else goes on hits them alike.

    Without a pause those on a pod use up what CPU it may have.
    """
    runs = {where: (api := deployment.api(), api.function(EMPTY))
            for where, deployment in places.items()}
    for pause in (0.0, 0.05):
        for _ in range(WARMING):
            for run in runs.values():
                _timed(*run)
        taken: dict[str, list[float]] = {where: [] for where in runs}
        for _ in range(WARM):
            for where, run in runs.items():
                time.sleep(pause)
                taken[where].append(_timed(*run))
        for where in runs:
            _report(f"warm execution, {where}{', 50 ms apart' if pause else ''}", taken[where])


def _cpu(deployment: Deployment) -> None:
    """Compare what functions of two sizes get done in the same time, beside each other."""
    api = deployment.api()
    functions = [api.function(SPIN, cpu=str(cpu), timeout="60") for cpu in (100, 200)]
    for function in functions:
        api.run(function, {"seconds": 0})
    time.sleep(_RESIZED)
    ratios = []
    for _ in range(5):
        made = [api.run(function, {"seconds": 4}, sync=False) for function in functions]
        small, large = (output(api.ended(one["id"], 60)) for one in made)
        ratios.append(large / small)
    for function in functions:
        api.ok("DELETE", f"/v1/functions/{function}", 204)
    ratios.sort()
    print(f"{'work done at cpu 200 / at cpu 100 (median, all)':49}{ratios[2]:9.2f}  "
          + " ".join(f"{ratio:.2f}" for ratio in ratios), flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    cluster = clusters.find()
    image = cluster.image("python3", "qinling_exec/__init__.py", "qinling_exec/runtime")
    namespace = cluster.make_namespace()
    # It wakes the engine at once; on other databases an idle one looks once in a second.
    server = databases.start("postgresql")

    def deployed(folder: str, **more: Mapping[str, object]) -> Deployment:
        path = pathlib.Path(folder)
        return Deployment(path, server.new_schema(), image=image, settings=more)

    def on_pods(replicas: int, folder: str) -> Deployment:
        return deployed(folder, engine={"orchestrator": "kubernetes"}, kubernetes={
            "kubeconfig": cluster.environment["KUBECONFIG"], "namespace": namespace,
            "pool_replicas": replicas})

    try:
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"{'case':44}{'runs':>5}{'p50 ms':>9}{'p90 ms':>9}")
        with tempfile.TemporaryDirectory(prefix="qb") as folder, on_pods(2, folder) as pods:
            _report("first execution, pods, warm pool", _first(pods, count, 2))
            _cpu(pods)
            with (tempfile.TemporaryDirectory(prefix="qb") as other,
                  deployed(other) as local):
                _report("first execution, local processes", _first(local, count, 2))
                _warm({"pods": pods, "local processes": local})
        with tempfile.TemporaryDirectory(prefix="qb") as folder, on_pods(0, folder) as pods:
            _report("first execution, pods, no pool", _first(pods, max(1, count // 4), 0))
        print(f"load {os.getloadavg()[0]:.1f}")
    finally:
        cluster.delete_namespace(namespace)
        server.close()


if __name__ == "__main__":
    main()
