# SPDX-License-Identifier: Apache-2.0
"""What the database has is told as numbers, without names."""

import pathlib
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa
import yaml

from qinling_exec import exceptions, metrics
from qinling_exec.db import models
from qinling_exec.db.engine import utcnow

PREFIX = "qinling_exec_"


def values(database):
    text = metrics.Metrics(database, lease=15).text().decode()
    lines = [line.split(" ") for line in text.splitlines() if line.startswith(PREFIX)]
    return {line[0].removeprefix(PREFIX): float(line[1]) for line in lines}


def test_an_empty_service(database):
    found = values(database)
    assert found["database_up"] == 1
    for name in ("executions_queued", "executions_running", "queue_age_seconds", "runners_alive",
                 "runners_dead", "pool_workers"):
        assert found[name] == 0, name


def test_what_is_there(database):
    now = utcnow()
    with database.writer() as connection:
        for runner, age in (("alive", 1), ("dead", 100)):
            connection.execute(sa.insert(models.Runner.__table__).values(
                id=runner, host="h", pid=1, started_at=now,
                heartbeat_at=now - timedelta(seconds=age)))
        for runner, status, age in ((None, "running", 90), (None, "running", 5),
                                    ("alive", "running", 200), (None, "success", 900)):
            connection.execute(sa.insert(models.Execution.__table__).values(
                id=models.new_id(), project_id="secret-project", function_id="secret-function",
                status=status, runner_id=runner, created_at=now - timedelta(seconds=age)))
        connection.execute(sa.insert(models.Worker.__table__).values(
            name="secret-worker", function_id="secret-function", function_version=0,
            fingerprint="f", state="ready", room=3, secret="secret", created_at=now))
    found = values(database)
    assert (found["executions_queued"], found["executions_running"]) == (2, 1)
    assert (found["runners_alive"], found["runners_dead"]) == (1, 1)
    assert 89 < found["queue_age_seconds"] < 100
    assert found['workers{state="ready"}'] == 1
    assert "secret" not in metrics.Metrics(database, 15).text().decode()


def test_a_database_that_is_away(database, monkeypatch):
    def away():
        raise exceptions.Unavailable

    monkeypatch.setattr(database, "reader", away)
    found = values(database)
    assert found["database_up"] == 0
    assert "executions_queued" not in found


def test_each_metric_is_in_the_guide(database):
    text = (FILES.parents[2] / "doc/source/admin/monitoring.rst").read_text()
    families = {line.split()[2].removeprefix(PREFIX) for line in metrics.Metrics(database, 15)
                .text().decode().splitlines() if line.startswith(f"# TYPE {PREFIX}")}
    assert len(families) > 15
    missing = {name for name in families if name not in text and not name.endswith("_created")}
    assert not missing


def test_one_look_serves_many(database, monkeypatch):
    told = metrics.Metrics(database, 15)
    told.text()
    monkeypatch.setattr(database, "reader", lambda: pytest.fail("looked again"))
    assert b"database_up 1.0" in told.text()


FILES = pathlib.Path(__file__).parents[2] / "etc/qinling_exec/monitoring"


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json"])
def test_dashboard_and_alerts_use_metrics_that_there_are(database, name):
    text = (FILES / name).read_text()
    used = set(re.findall(r"qinling_exec_\w+", text))
    families = {line.split()[2] for line in metrics.Metrics(database, 15).text().decode(
        ).splitlines() if line.startswith("# TYPE")}
    known = families | {f"{name}_bucket" for name in families}
    assert used and used <= known
    yaml.safe_load(text)
