# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-status upgrade check finds what is wrong with a deployment."""

import json
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa

from qinling_exec import conf as configuration
from qinling_exec.cmd import status
from qinling_exec.db import migration, models
from qinling_exec.db.engine import Database, utcnow

ALL = {"Database schema", "Orphaned executions", "Package files", "Policy file", "Options",
       "Clocks", "Orchestrator"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "service.conf").write_text(
        f"[DEFAULT]\nauth_strategy = noauth\n[database]\nconnection = sqlite:///{tmp_path}/db\n"
        f"[packages]\ndirectory = {tmp_path}/packages\n")
    return tmp_path


@pytest.fixture
def database(folder):
    database = Database(configuration.load(files=[str(folder / "service.conf")]))
    migration.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def run(folder, monkeypatch, capsys):
    def run():
        monkeypatch.setattr(sys, "argv", ["qinling-exec-status", "--config-file",
                                          str(folder / "service.conf"), "upgrade", "check",
                                          "--json"])
        code = status.main()
        checks = json.loads(capsys.readouterr().out)["checks"]
        return code, {one["check"]: (one["result"], one["details"]) for one in checks}

    return run


def test_all_is_well(database, run):
    code, checks = run()
    assert (code, set(checks)) == (0, ALL)


def test_without_a_schema(run):
    code, checks = run()
    assert (code, checks["Database schema"][0]) == (2, 2)
    assert "qinling-exec-manage db sync" in checks["Database schema"][1]


def test_without_a_database(folder, run):
    (folder / "service.conf").write_text("[DEFAULT]\nauth_strategy = noauth\n")
    code, checks = run()
    assert code == 2
    assert "[database] connection" in checks["Database schema"][1]
    assert checks["Options"][0] == 0


def test_orphans(database, run):
    with database.writer() as connection:
        connection.execute(sa.insert(models.Execution.__table__).values(
            id=models.new_id(), project_id="p", function_id="f", status="running",
            runner_id="gone", created_at=utcnow()))
    code, checks = run()
    assert (code, checks["Orphaned executions"][0]) == (1, 1)
    assert checks["Orphaned executions"][1].startswith("1 executions")


def test_a_package_that_is_gone(database, run):
    with database.writer() as connection:
        connection.execute(sa.insert(models.Package.__table__).values(
            sha256="a" * 64, md5="b" * 32, size=1))
    code, checks = run()
    assert (code, checks["Package files"][0]) == (2, 2)
    assert checks["Package files"][1].startswith("1 of 1 packages")


@pytest.mark.parametrize(("text", "result"), [("[", 2), ('{"runtime:get": "role:x"}', 1),
                                              ('"runtime:get": "role:x"\n', 0)])
def test_the_policy_file(database, folder, run, text, result):
    (folder / "policy.yaml").write_text(text)
    code, checks = run()
    assert (code, checks["Policy file"][0]) == (result, result)


def test_options(database, folder, run):
    file = folder / "service.conf"
    text = file.read_text()
    file.write_text(text + "[engine]\nlease = 3\n")
    code, checks = run()
    assert (code, checks["Options"]) == (1, (1, "Nothing reads these options: [engine] lease."))
    file.write_text(text + "[api]\nmax_page = 1\n")
    assert run()[1]["Options"][0] == 2


def test_clocks_that_differ(database, run, monkeypatch):
    monkeypatch.setattr(status, "utcnow", lambda: utcnow() + timedelta(seconds=90))
    code, checks = run()
    assert code == 1
    assert "differ by 90" in checks["Clocks"][1] or "differ by 89" in checks["Clocks"][1]


def test_an_orchestrator_that_is_not_installed(database, folder, run):
    with (folder / "service.conf").open("a") as file:
        file.write("[engine]\norchestrator = nothing\n")
    code, checks = run()
    assert (code, checks["Orchestrator"][0]) == (2, 2)


def test_a_cluster_that_is_not_known_on_this_host(database, folder, run, monkeypatch):
    """An API's host has no rights at the cluster, and needs none."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with (folder / "service.conf").open("a") as file:
        file.write("[engine]\norchestrator = kubernetes\n")
    code, checks = run()
    assert (code, checks["Orchestrator"][0]) == (1, 1)
    assert "not checked here" in checks["Orchestrator"][1]
    assert "[kubernetes] kubeconfig" in checks["Orchestrator"][1]


def test_a_config_file_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--config-file", "/nowhere", "upgrade", "check"])
    assert status.main() == 255
    assert "/nowhere" in capsys.readouterr().err
