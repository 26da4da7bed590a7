# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-manage runtime check, of the project's images in pods of a real cluster."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from qinling_exec.conformance.checks import CHECKS
from tests.functional import processes
from tests.kubernetes.cluster import Cluster


@pytest.fixture(autouse=True)
def nothing_is_left(cluster: Cluster, namespace: str) -> Iterator[None]:
    yield
    assert processes.wait_for(lambda: not cluster.get("-n", namespace, "pods")["items"], 60)


def _check(cluster: Cluster, namespace: str,
           *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{os.environ['PATH']}:{cluster.programs}"
    return subprocess.run(
        [sys.executable, "-m", "qinling_exec.cmd.manage", "runtime", "check", *arguments,
         "--namespace", namespace], capture_output=True, text=True, timeout=500,
        env={**os.environ, **cluster.environment, "PATH": path})


@pytest.mark.parametrize(("image", "language"), [
    ("runtime_image", "python"),
    pytest.param("nodejs_image", "nodejs", marks=pytest.mark.long),
])
def test_the_images_of_the_project(cluster: Cluster, namespace: str, image: str, language: str,
                                   request: pytest.FixtureRequest) -> None:
    done = _check(cluster, namespace, request.getfixturevalue(image), "--language", language)
    assert [line for line in done.stdout.splitlines() if not line.startswith("ok ")] == []
    # How its process ends a pod does not tell.
    assert len(done.stdout.splitlines()) >= len(CHECKS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_an_image_whose_server_can_be_read(cluster: Cluster, namespace: str) -> None:
    """In which Node may be read as on this machine, not only executed."""
    node = shutil.which("node")
    if cluster.folder is None or node is None:
        pytest.skip("THERE IS NO NODE, or nothing to make an image with")
    image = f"node.local/qinling-exec-readable:{secrets.token_hex(4)}"
    cluster.build("nodejs", image, f"--copy {node}:/usr/local/bin/node")
    done = _check(cluster, namespace, image, "--language", "nodejs")
    (failed,) = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert failed.startswith("FAILED  a run can't read the memory and environment"), failed
    assert failed.endswith(": it can read 1/environ, 1/mem")
    assert done.returncode == 1


@pytest.mark.long
def test_an_image_that_nobody_has(cluster: Cluster, namespace: str) -> None:
    done = _check(cluster, namespace, "node.local/there-is-no-such-image:1")
    assert done.returncode != 0
    assert "There is nothing to check: the pod does not run" in done.stderr, done.stderr
