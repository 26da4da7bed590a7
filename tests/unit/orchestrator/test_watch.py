# SPDX-License-Identifier: Apache-2.0
"""An engine's copy of its pods, with an API server that replays one; see also tests/kubernetes."""

from __future__ import annotations

import contextlib

import pytest

from qinling_exec import conf as configuration
from qinling_exec.orchestrator.kubernetes.client import Client
from qinling_exec.orchestrator.kubernetes.watch import Watch
from tests.benchmarks.recorded_pods import RecordedPods
from tests.functional import processes

POD = {"metadata": {"name": "p", "labels": {"qinling-exec/pool": "r"}}, "spec": {}, "status": {}}


@pytest.fixture
def watched(tmp_path):
    """Start to watch so many pods."""
    with contextlib.ExitStack() as stack:
        def start(count, changes=0.0):
            server = RecordedPods(POD, count, changes)
            stack.callback(server.close)
            conf = configuration.load()
            conf.set_override("kubeconfig", str(server.kubeconfig(tmp_path)), "kubernetes")
            client = Client(conf)
            stack.callback(client.close)
            watch = Watch(client, lambda name, pod: None)
            stack.callback(watch.stop)
            watch.start()
            watch.await_current()
            return watch

        yield start


@pytest.mark.parametrize("count", [0, 1, 100, 101, 350])
def test_a_list_comes_in_pages(watched, count):
    assert {pod.name for pod in watched(count).all()} == {f"p-{n}" for n in range(count)}


def test_changes_are_taken_in(watched):
    watch = watched(3, changes=50.0)
    assert processes.wait_for(
        lambda: all(int(pod.version) > 100 for pod in watch.all()), 20)
    assert len(watch.all()) == 3
