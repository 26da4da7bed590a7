# SPDX-License-Identifier: Apache-2.0
"""The functional suite of executions, with functions in pods.

It is run as for any deployment that is there already.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.deployment import Deployment
from tests.kubernetes.cluster import Cluster

_FOLDER = Path(__file__).parents[1] / "functional"
_FILES = ("executions", "outcomes", "execution_logs", "follow", "cancel", "attempts",
          "idempotency", "execution_lists", "tenants")
#: The tests of these files that are not run on pods, and why not.
_LEFT_OUT = {
    "attempts::a_lost_worker_is_the_services_fault":
        "it kills a process of the service; test_faults.py loses pods in many ways",
    "cancel::delete_of_one_that_waits":
        "its service has room for one run; what waits has no pod yet",
    "cancel::one_that_waits":
        "its service has room for one run; what waits has no pod yet",
    "cancel::the_operator_cancels_too":
        "its service has room for one run, and its command the service's database",
    "executions::request_id_is_in_reply_record_and_service_log":
        "it reads the log of the service, which is the same for all orchestrators",
    "follow::more_than_there_is_room_for":
        "its service lets two follow; who follows is the API's business, not the pod's",
    "follow::through_another_process":
        "its service has two API processes; they talk to each other, not to the pod",
    "idempotency::a_service_killed_before_its_answer_is_asked_again":
        "it kills the embedded service; test_faults.py kills engines between any two steps",
    "idempotency::forgotten_when_its_time_is_over":
        "its service forgets keys after a second",
    "outcomes::one_run_sees_nothing_of_another":
        "it is for machines that give a run namespaces, which a restricted pod can't;"
        " test_hostile.py looks at what runs leave to each other in a pod",
    "outcomes::runs_are_kept_apart_where_the_machine_lets_them":
        "it is for machines that give a run namespaces, which a restricted pod can't",
}


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(kubernetes={"pool_replicas": 3},
                  settings={"engine": {"function_service_expiration": 20}})


@pytest.fixture(scope="module")
def left_out(cluster: Cluster, deployment: Deployment) -> set[str]:
    """Run the suite, all of which passes; return what the suite has left out."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=20",
         "--deployment", deployment.apis[0].url,
         *(str(_FOLDER / f"test_{name}.py") for name in _FILES)],
        check=False, capture_output=True, text=True, cwd=_FOLDER.parents[1],
        env={**os.environ, "QINLING_EXEC_TEST_DATABASES": "sqlite",
             "QINLING_EXEC_TEST_HOST": cluster.host})
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout + deployment.log()
    passed = re.search(r"^(\d+) passed, \d+ deselected in", done.stdout, re.M)
    assert passed is not None, "nothing is skipped"
    assert int(passed[1]) > 390
    return {f"{file}::{name}" for file, name in re.findall(
        r"left out: tests/functional/test_(\w+)\.py::test_(\w+)", done.stdout)}


def test_the_functional_suite_of_executions(left_out: set[str]) -> None:
    assert left_out == set(_LEFT_OUT)


@pytest.mark.parametrize("name", _LEFT_OUT)
def test_of_the_suite(left_out: set[str], name: str) -> None:
    assert name in left_out
    pytest.skip(f"NOT ON PODS: {_LEFT_OUT[name]}")
