# SPDX-License-Identifier: Apache-2.0
"""The Tempest tests that Qinling 5.0.0 ships, with functions in pods, behind a real Keystone.

All that are about what is here, but one that reads a page of the Internet. The images have the
names that the tests know.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional import processes
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone
from tests.functional.keystone.tempest import CHOSEN, INTERNET, Tempest
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.rights import Access

pytestmark = pytest.mark.long
PYTHON, NODEJS = "openstackqinling/python3-runtime:0.0.2", "openstackqinling/nodejs-runtime:0.0.1"
#: What images do that functions are made of.
PROGRAMS = {"openstackqinling/alpine-test": "import sys; print(*sys.argv[1:])",
            "lingxiankong/sleep": "import sys, time; time.sleep(float(sys.argv[1]))"}
CPU = "test_python_execution_cpu_limit"
NODE = r"qinling_tempest_plugin\.tests\.api\.test_executions_nodejs\."


@pytest.fixture(scope="module")
def images(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give the cluster the images; only a cluster that the tests start takes any."""
    if cluster.folder is None:
        pytest.skip("THE CLUSTER TAKES NO IMAGES FROM HERE: Qinling's tests were not tried on it")
    # As in the Python that Qinling had: a test's function makes a text of 50,000 digits.
    unlimited = tmp_path_factory.mktemp("image") / "sitecustomize.py"
    unlimited.write_text("import sys\nsys.set_int_max_str_digits(0)\n")
    cluster.build("python3", f"docker.io/{PYTHON}",
                  f"--copy {unlimited}:/opt/qinling/sitecustomize.py")
    if shutil.which("node"):
        cluster.build("nodejs", f"docker.io/{NODEJS}")
    for name, program in PROGRAMS.items():
        cluster.build_program(f"docker.io/{name}:latest", "python3", "-c", program)


@pytest.fixture(scope="module")
def keystone(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Run a Keystone of the module's own: one catalogue names one service."""
    running = Keystone(tmp_path_factory.mktemp("keystone"))
    running.user("qinling", "service", "service")
    yield running
    running.close()


@pytest.fixture
def tempest(keystone: Keystone, cluster: Cluster, access: Access, namespace: str,
            tmp_path: Path) -> Iterator[Callable[..., Tempest]]:
    """Start the service, and return where to run tests of it from; nothing is left of either.

    The arguments are how many runs a worker has room for, and more options of the service's group
    ``kubernetes``.
    """
    started: list[Deployed] = []

    def start(room: int = 3, **options: object) -> Tempest:
        options |= {"kubeconfig": access.kubeconfig("engine"), "namespace": namespace}
        running = Deployed(tmp_path / "service", "\n".join([
            keystone.settings("qinling", "service"),
            "[engine]", "orchestrator = kubernetes", f"function_concurrency = {room}",
            "[kubernetes]", *(f"{name} = {value}" for name, value in options.items())]))
        started.append(running)
        keystone.service("qinling", "function-engine", running.wait_ready().url)
        return Tempest(tmp_path, keystone, python=PYTHON, nodejs=NODEJS)

    yield start
    try:
        assert processes.wait_for(lambda: not cluster.get(
            "-n", namespace, "pods,deployments,replicasets")["items"], 120), started[0].log
    finally:
        keystone.withdraw("qinling")
        for running in started:
            assert running.stop() == 0, running.log[-4000:]
    assert "Traceback" not in started[0].log, started[0].log[-6000:]


def test_every_test_of_qinlings_passes(tempest: Callable[..., Tempest]) -> None:
    assert tempest().passed(CHOSEN, [CPU, *INTERNET]) == 35


@pytest.mark.skipif(not shutil.which("node"), reason="THERE IS NO NODE for its runtime's image")
def test_its_test_of_functions_in_javascript_passes(tempest: Callable[..., Tempest]) -> None:
    assert tempest().passed(NODE) == 1


def test_its_test_of_shares_of_the_cpu_passes(tempest: Callable[..., Tempest]) -> None:
    """It compares how long less than a second's work takes with one share and with two.

    By default a pod begins with a whole CPU, which lasts about that long, has a share of its own
    and those of three runs. Who wants runs to have their share to the letter says so.
    """
    exact = tempest(room=1, pool_replicas=0, boost_cpu=1, server_cpu=1, request_percent=99)
    assert exact.passed(CPU) == 1
