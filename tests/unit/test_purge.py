# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-manage db purge."""

import sys

import pytest

from qinling_exec.cmd import manage
from qinling_exec.executions import states
from tests.unit.executions.test_retention import add, left

pytestmark = pytest.mark.every_database


@pytest.fixture
def purge(conf, database, tmp_path, monkeypatch, capsys):
    """Run the command with arguments; return its exit status and what it printed."""
    config = tmp_path / "q.conf"
    connection = conf.database.connection.replace("%", "%%").replace("$", "$$")

    def run(*arguments, retention=""):
        config.write_text(f"[database]\nconnection = {connection}\n[retention]\n{retention}\n")
        monkeypatch.setattr(sys, "argv", ["qinling-exec-manage", "--config-file", str(config),
                                          "db", "purge", *arguments])
        status = manage.main()
        return status, "".join(capsys.readouterr())

    return run


def test_dry_run_then_purge_then_nothing(database, purge):
    add(database, 31, count=12)
    add(database, 31, status=states.RUNNING)
    kept = left(database)
    status, text = purge("--older-than", "30", "--dry-run")
    assert (status, text.strip()) == (
        0, "12 executions that ended more than 30 days ago would be deleted.")
    assert left(database) == kept
    status, text = purge("--older-than", "30", "--batch", "5", "--share", "100")
    assert (status, text.strip()) == (
        0, "12 executions that ended more than 30 days ago deleted, 0 idempotency keys forgotten.")
    assert len(left(database)) == 1
    assert purge("--older-than", "30")[1].startswith("0 executions")


def test_the_age_comes_from_the_configuration(database, purge):
    add(database, 8, count=2)
    add(database, 6)
    assert purge(retention="days = 7\nshare = 100")[1].startswith(
        "2 executions that ended more than 7 days ago deleted")


def test_without_any_age_nothing_is_deleted(database, purge, capsys):
    add(database, 4000)
    with pytest.raises(SystemExit) as refused:
        purge()
    assert refused.value.code == 1
    assert "--older-than" in capsys.readouterr().err
    assert len(left(database)) == 1


@pytest.mark.parametrize("arguments", [
    ("--older-than", "0"), ("--older-than", "-1"), ("--older-than", "x"), ("--older-than", "nan"),
    ("--older-than", "1", "--batch", "0"), ("--older-than", "1", "--share", "101"),
])
def test_nonsense_is_refused(database, purge, arguments):
    add(database, 31)
    with pytest.raises(SystemExit) as refused:
        purge(*arguments)
    assert refused.value.code == 2
    assert len(left(database)) == 1
