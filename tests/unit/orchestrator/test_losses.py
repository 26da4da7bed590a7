# SPDX-License-Identifier: Apache-2.0
"""Whoever loses a run with its worker is told why, by the engine that saw it."""

import threading
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.orchestrator import losses, workers
from qinling_exec.orchestrator.kubernetes import names, seen

WORKER = workers.Worker("w", "f", 0, "", workers.READY, "me", "10.0.0.1:9090", 3)


@pytest.fixture
def table(database):
    with database.writer() as connection:
        connection.execute(sa.insert(models.Worker.__table__), {
            "name": "w", "function_id": "f", "function_version": 0, "fingerprint": "",
            "state": workers.READY, "runner_id": "me", "room": 3, "created_at": utcnow()})
    return workers.Workers(database, Wakeup(database, alone=True), 3)


def test_the_reason_is_waited_for(table):
    thread = threading.Timer(0.3, table.lose, ["w", "its pod was deleted"])
    thread.start()
    assert losses.Losses(table, told=True).why(WORKER) == "its pod was deleted"
    thread.join()
    table.lose("w", "its pod was evicted")
    assert table.loss("w") == "its pod was deleted", "the first reason counts"
    table.give_up("w", by_any=True)
    assert table.loss("w") == "its pod was deleted", "others may still ask"
    assert table.names("f", 0, 10) == [], "it takes no runs"


def test_who_waits_for_a_run_on_a_lost_worker_is_known(table, database):
    """A node that falls silent is lost long before the runs on it are given up."""
    assert not table.has_runs("w")
    with database.writer() as connection:
        connection.execute(sa.insert(models.Execution.__table__), {
            "id": "e", "project_id": "mine", "function_id": "f", "status": "running",
            "worker": "w", "created_at": utcnow()})
    assert table.has_runs("w")
    assert not table.has_runs("x")
    with database.writer() as connection:
        connection.execute(sa.update(models.Execution.__table__).values(status="error"))
    assert not table.has_runs("w")


@pytest.mark.parametrize(("told", "gone"), [(False, False), (True, True)])
def test_nobody_will_tell(table, told, gone):
    began = time.monotonic()
    worker = replace(WORKER, name="gone" if gone else "w")
    assert losses.Losses(table, told=told).why(worker) == ""
    assert time.monotonic() - began < losses._SECONDS


def test_nobody_has_told(table, monkeypatch):
    monkeypatch.setattr(losses, "_SECONDS", 0.2)
    assert losses.Losses(table, told=True).why(WORKER) == ""


def _pod(restarts="0", **status):
    return {"metadata": {"name": "p", "resourceVersion": "1",
                         "labels": {names.WORKER: "w", names.RESTARTS: restarts}},
            "status": {"phase": "Running", **status}}


def _ended(state, count, code=137, reason="Error"):
    ended = {"terminated": {"exitCode": code, "reason": reason}}
    return {"containerStatuses": [{"restartCount": count, state: ended}]}


@pytest.mark.parametrize(("pod", "loss"), [
    (_pod(), ""),
    (_pod("2", containerStatuses=[{"restartCount": 2}]), ""),
    (_pod("2", containerStatuses=[{"restartCount": 3}]), "exit code unknown"),
    (_pod("1", **_ended("lastState", 1)), ""),
    (_pod(**_ended("state", 0)), "its server ended with exit code 137"),
    (_pod(**_ended("lastState", 1, 3)), "its server ended with exit code 3"),
    (_pod(**_ended("lastState", 1, reason="OOMKilled")), "no memory left"),
    (_pod(phase="Failed", reason="Evicted", message="The disk is full. "),
     "its pod was evicted (Evicted): The disk is full"),
    (_pod(phase="Failed", conditions=[
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]),
     "its node was lost"),
    (_pod(conditions=[{"type": "DisruptionTarget", "status": "True",
                       "reason": "DeletionByPodGC"}]), "its node was lost"),
    (_pod(conditions=[{"type": "DisruptionTarget", "status": "False",
                       "reason": "DeletionByPodGC"}]), ""),
    (_pod("what?"), ""),
    (_pod(phase="Failed", reason="Strange"), "the cluster ended its pod (Strange)"),
])
def test_what_the_cluster_says(pod, loss):
    found = seen.read(pod)
    assert loss in found.loss
    assert found.over is bool(loss)


def test_what_the_cluster_does_not_say():
    pod = _pod()
    pod["metadata"]["deletionTimestamp"] = "2026-11-01T00:00:00Z"
    assert seen.read(pod).loss == seen.DELETED
