# SPDX-License-Identifier: Apache-2.0
"""Functions made of an image, in pods of a real cluster. Their image is Python: what they do is
said by the arguments that an execution gives them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.client import result as result_of
from tests.functional.deployment import Deployment
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.pods import describe

_START_SECONDS = 15
_LOG_SIZE = 20000
_LABEL = "qinling-exec/execution"


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(kubernetes={"pool_replicas": 0},
                  settings={"engine": {"start_timeout": _START_SECONDS},
                            "limits": {"max_cpu": 1000, "log_size": _LOG_SIZE}})


@pytest.fixture
def api(deployment: Deployment) -> Api:
    return deployment.api()


@pytest.fixture
def pods(cluster: Cluster, namespace: str) -> Callable[[], list[dict[str, Any]]]:
    """Return the pods of executions that there are."""
    return lambda: list(cluster.get("-n", namespace, "pods", "-l", _LABEL)["items"])


@pytest.fixture(autouse=True)
def nothing_is_left(pods: Callable[[], list[dict[str, Any]]]) -> Iterator[None]:
    """No pod outlives its execution."""
    yield
    assert processes.wait_for(lambda: not pods(), 40), [pod["metadata"]["name"] for pod in pods()]


def _make(api: Api, image: str, **fields: Any) -> str:
    """Make a function of an image."""
    made = api.ok("POST", "/v1/functions", 201, json={
        "name": "image", "code": {"source": "image", "image": image}, "timeout": 20, "cpu": 1000,
        **fields})
    return str(made["id"])


@pytest.fixture
def function(api: Api, python_image: str) -> str:
    return _make(api, python_image)


def _python(code: str, *more: Any) -> str:
    """Return the input that makes the image run a program."""
    return json.dumps(["-uc", code, *more])


def _begin(api: Api, function: str, code: str) -> str:
    return str(api.run(function, _python(code), sync=False)["id"])


def _prints(api: Api, execution: str, data: bytes, seconds: float = 30) -> bool:
    return bool(processes.wait_for(lambda: data in api.log(execution), seconds))


def test_what_it_prints_is_the_log_and_its_result_has_the_duration(api: Api,
                                                                   function: str) -> None:
    execution = api.run(function, _python(
        "import sys\nprint('out')\nprint('err', file=sys.stderr)"))
    assert execution["status"] == "success"
    assert set(result_of(execution)) == {"duration"}
    assert sorted(api.log(execution["id"]).splitlines()) == [b"err", b"out"]


@pytest.mark.parametrize(("given", "expected"), [
    ("-c print(__import__('sys').argv)  a \n b", ["-c", "a", "b"]),
    ('["-c", "import sys; print(sys.argv)", "a b", 1, {"k": null}, "$(HOME) $$(X) $Y $"]',
     ["-c", "a b", "1", '{"k": null}', "$(HOME) $$(X) $Y $"]),
])
def test_its_input_is_its_arguments(api: Api, function: str, given: str,
                                    expected: list[str]) -> None:
    execution = api.run(function, given)
    assert api.log(execution["id"]).decode().strip() == str(expected)


def test_input_that_can_t_be_arguments_is_refused(api: Api, function: str) -> None:
    for wrong in (["a\0b"], ["x" * 200_000], ["\ud800"]):
        text = api.refused("POST", "/v1/executions", 400, json={
            "function_id": function, "input": json.dumps(wrong)})
        assert "arguments" in text


@pytest.mark.parametrize(("code", "output", "reason"), [
    ("print('so'); raise SystemExit(3)", "status 3", "exit"),
    ("import os; os.abort()", "SIGABRT", "signal"),
    ("x = bytearray(2**30)\nfor i in range(0, 2**30, 4096): x[i] = 1", "resource consumption",
     "memory"),
])
def test_its_failures_are_its_own(api: Api, function: str, code: str, output: str,
                                  reason: str) -> None:
    execution = api.run(function, _python(code))
    assert execution["status"] == "failed"
    assert output in result_of(execution)["output"], reason


def test_it_has_its_timeout_from_when_it_began(api: Api, python_image: str) -> None:
    function = _make(api, python_image, timeout=3)
    began = time.monotonic()
    execution = api.run(function, _python(
        "import time\nfor i in range(60):\n print(i)\n time.sleep(1)"))
    assert time.monotonic() - began < 15
    assert (execution["status"], result_of(execution)) == (
        "failed", {"output": "Function execution timeout", "duration": 3})
    lines = api.log(execution["id"]).split()
    assert lines[:3] == [b"0", b"1", b"2"]
    assert len(lines) < 9


def test_its_log_is_read_while_it_runs(api: Api, function: str) -> None:
    execution = _begin(api, function, "import time\nprint('begun')\ntime.sleep(3)\nprint('over')")
    assert _prints(api, execution, b"begun\n")
    assert api.show(execution)["status"] == "running"
    assert api.ended(execution)["status"] == "success"
    assert api.log(execution) == b"begun\nover\n"


def test_a_long_log_is_cut_and_says_so(api: Api, function: str) -> None:
    execution = api.run(function, _python("print('x' * 99999)"))
    assert execution["status"] == "success"
    log = api.log(execution["id"])
    assert log[:_LOG_SIZE] == b"x" * _LOG_SIZE
    assert log[_LOG_SIZE:] == b"\n[The log was cut here: its limit is 20000 bytes.]\n"


@pytest.mark.long
def test_an_image_that_nobody_has(api: Api) -> None:
    function = _make(api, "node.local/there-is-no-such-image:1")
    began = time.monotonic()
    execution = api.run(function)
    assert time.monotonic() - began < _START_SECONDS + 15
    assert execution["status"] == "error"
    assert "node.local/there-is-no-such-image:1" in result_of(execution)["output"]


def test_cancel_ends_the_pod(api: Api, function: str, pods: Callable[[], Any]) -> None:
    execution = _begin(api, function, "import time\nprint('begun')\ntime.sleep(60)")
    assert _prints(api, execution, b"begun")
    began = time.monotonic()
    assert api.ok("POST", f"/v1/executions/{execution}/cancel")["status"] == "cancelled"
    assert processes.wait_for(lambda: not pods(), 5)
    assert time.monotonic() - began < 5
    assert api.log(execution) == b"begun\n"


def test_its_pod_is_as_strict_as_a_worker_s(api: Api, function: str,
                                            pods: Callable[[], Any]) -> None:
    code = ("import os, time\nprint(os.getuid(), os.path.exists('/var/run/secrets'))\n"
            "try: open('/x', 'w')\nexcept OSError as error: print(error.strerror)\n"
            "open('/tmp/x', 'w').write('y')\ntime.sleep(3)")
    execution = _begin(api, function, code)
    assert _prints(api, execution, b"system")
    spec = pods()[0]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["memory"] == str(2**25)
    assert api.ended(execution)["status"] == "success"
    assert api.log(execution) == b"65532 False\nRead-only file system\n"


def test_a_pod_of_an_attempt_that_nobody_knows_goes(
        cluster: Cluster, namespace: str, deployment: Deployment, python_image: str,
        pods: Callable[[], Any]) -> None:
    assert deployment.engines
    stray = describe("qx-run-stray-1", python_image, **{
        "app.kubernetes.io/managed-by": "qinling-exec", "qinling-exec/attempt": "1",
        _LABEL: "11111111-2222-4333-8444-555555555555"})
    stray["metadata"]["annotations"] = {"qinling-exec/timeout": "5", "qinling-exec/log-begin": "0"}
    stray["metadata"]["name"] = f"qx-run-{stray['metadata']['labels'][_LABEL]}-1"
    stray["spec"]["containers"][0]["args"] = ["-c", "import time; time.sleep(60)"]
    cluster.apply(stray, namespace=namespace)
    assert processes.wait_for(lambda: not pods(), 40)
