# SPDX-License-Identifier: Apache-2.0
"""The functional suite of executions, with functions in pods.

It is run as for any deployment that is there already. What it leaves out looks at processes, files
or the log of a service on its own machine, or starts one; the suite says how much that is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.deployment import Deployment
from tests.kubernetes import site as sites
from tests.kubernetes.cluster import Cluster

_FILES = ("executions", "outcomes", "execution_logs", "follow", "cancel", "attempts",
          "idempotency", "execution_lists", "tenants")
#: What is tried each time: a test of each kind.
_SUBSET = " or ".join((
    "async_run or version_and_alias or new_package or more_runs_than_one or delete_ends",
    "SIGTERM or timeout_ends or too_much_memory or context or package_files",
    "readable_while_it_runs or log_of_what_was_killed or over_its_limit",
    "from_before_the_start or cancelled_and_deleted or a_running_one or everything_that",
    "repeated_where or fifty_at_once",
))


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], cluster: Cluster,
               namespace: str) -> Iterator[Deployment]:
    made = deploy(kubernetes={"pool_replicas": 3},
                  settings={"engine": {"function_service_expiration": 20}})
    yield made
    sites.clear(cluster, namespace, made)


def _run(cluster: Cluster, deployment: Deployment, *arguments: str) -> int:
    """Run tests/functional; return how many have passed."""
    folder = Path(__file__).parents[1] / "functional"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=10",
         "--deployment", deployment.apis[0].url, *arguments,
         *(str(folder / f"test_{name}.py") for name in _FILES)],
        check=False, capture_output=True, text=True, cwd=folder.parents[1],
        env={**os.environ, "QINLING_EXEC_TEST_DATABASES": "sqlite",
             "QINLING_EXEC_TEST_HOST": cluster.host})
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout + deployment.log()
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    return int(found[1])


def test_a_part_of_the_functional_suite(cluster: Cluster, deployment: Deployment) -> None:
    assert _run(cluster, deployment, "-k", _SUBSET) > 15


@pytest.mark.long
def test_the_whole_functional_suite_of_executions(cluster: Cluster,
                                                  deployment: Deployment) -> None:
    assert _run(cluster, deployment) > 200
