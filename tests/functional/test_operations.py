# SPDX-License-Identifier: Apache-2.0
"""What operators see of a deployment of several processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.functional import processes
from tests.functional.deployment import Deployment


def test_processes_count_together_and_report(deploy: Callable[..., Deployment], tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """The API tells what the engine has run; each process writes a report when asked."""
    shared = tmp_path / "counts"
    shared.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(shared))
    deployment = deploy(apis=1, engines=1)
    api = deployment.api()
    made = api.ok("POST", "/v1/executions", 201,
                  json={"function_id": api.function(), "sync": False})
    assert processes.wait_for(lambda: api.show(made["id"])["status"] == "success", 30)
    url = f"{deployment.apis[0].url}/metrics"
    assert processes.wait_for(lambda: re.search(
        r'^qinling_exec_executions_ended_total\{reason="none",status="success"\} [1-9]',
        requests.get(url, timeout=30).text, re.M), 20), requests.get(url, timeout=30).text
    assert requests.get(f"{deployment.apis[0].url}/healthcheck", timeout=30).status_code == 200
    for process in (deployment.apis[0], deployment.engines[0]):
        os.kill(process.pid, signal.SIGUSR2)
        assert processes.wait_for(lambda process=process: "Configuration of the service"
                                  in process.log, 30), process.log[-3000:]
    assert api.show(made["id"])["status"] == "success"
