# SPDX-License-Identifier: Apache-2.0
"""What a program can't start with is told in one line, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.running import Running, free_port, run

ROOT = Path(__file__).parents[2]
ENGINE = [sys.executable, "-m", "qinling_exec.cmd.engine", "--config-file"]
MANAGE = [sys.executable, "-m", "qinling_exec.cmd.manage"]
GUNICORN = [sys.executable, "-m", "gunicorn", "-c",
            str(ROOT / "etc/qinling_exec/gunicorn.conf.py"), "qinling_exec.wsgi.api:application"]


def refused(*arguments: str) -> str:
    """Return the one line that a refused start of the embedded service prints."""
    return only_line(run("--port", str(free_port()), *arguments))


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def start(command: list[str], config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False,
                          stdin=subprocess.DEVNULL,
                          env={**os.environ, "QINLING_EXEC_CONFIG_FILES": str(config)})


@pytest.mark.parametrize(("settings", "told"), [
    ("[limits]\ndefault_timeout = abc", "[limits] default_timeout"),
    ("[limits]\nmin_timeout = 9000", "contradicts"),
    ("[api]\nlist_seconds = soon", "[api] list_seconds"),
    ("[DEFAULT]\nnonsense", "Failed to parse"),
    ("[database]\nconnection = mysql+nosuch://u:secret@127.0.0.1/x", "[database] connection"),
    ("[database]\nconnection = postgresql+psycopg2://u:secret@127.0.0.1/x", "driver"),
    ("[database]\nconnection = nonsense", "[database] connection"),
    # A password with an @ in it: the rest of it is a host or a port to who reads the URL.
    ("[database]\nconnection = postgresql+psycopg://u:a@secret@127.0.0.1/x", "%40 for @"),
    ("[database]\nconnection = postgresql+psycopg://u:a@b:secret@127.0.0.1/x", "%40 for @"),
    ("[database]\nconnection = mysql+pymysql://u:a@b:secret/c@127.0.0.1/x", "%40 for @"),
    ("[database]\nconnection = postgresql+psycopg://u:secret@127.0.0.1:1/x", "can't be reached"),
    ("[database]\nconnection = sqlite:////nonexistent/x.sqlite", "/nonexistent/x.sqlite"),
    ("[packages]\nstore = nosuch", "driver nosuch"),
])
def test_settings(tmp_path: Path, settings: str, told: str) -> None:
    config = tmp_path / "wrong.conf"
    config.write_text(settings + "\n")
    line = refused("--data-dir", str(tmp_path / "data"), "--config-file", str(config))
    assert told in line
    assert "secret" not in line


def test_no_database_in_its_file(tmp_path: Path) -> None:
    """It hung, and heeded no SIGTERM."""
    (tmp_path / "qinling_exec.sqlite").write_bytes(b"this is text\n" * 1000)
    assert "--data-dir" in refused("--data-dir", str(tmp_path))


def test_newer_schema(tmp_path: Path, start_service: Callable[..., Running]) -> None:
    start_service().stop()
    path = tmp_path / "data" / "qinling_exec.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    line = refused("--data-dir", str(path.parent))
    assert "9999" in line
    assert "newer" in line


@pytest.mark.parametrize("program", ["engine", "manage", "gunicorn"])
@pytest.mark.parametrize(("settings", "told"), [
    ("[limits]\ndefault_timeout = abc", "[limits] default_timeout"),
    ("[DEFAULT]\nnonsense", "Failed to parse"),
    ("[database]\nconnection = mysql+nosuch://u:secret@127.0.0.1/x", "[database] connection"),
    ("[database]\nconnection = sqlite:////nonexistent/x.sqlite", "/nonexistent/x.sqlite"),
    ("[database]\nconnection = sqlite:///{folder}/text.sqlite", "not a database"),
    ("", "No database is configured"),
    (None, "Failed to find"),
])
def test_other_programs(tmp_path: Path, program: str, settings: str | None, told: str) -> None:
    """Engines failed again and again, gunicorn showed a traceback."""
    (tmp_path / "text.sqlite").write_bytes(b"this is text\n" * 1000)
    config = tmp_path / "wrong.conf"
    if settings is not None:
        config.write_text(settings.format(folder=tmp_path) + "\n")
    command = {"engine": [*ENGINE, str(config)], "gunicorn": GUNICORN,
               "manage": [*MANAGE, "--config-file", str(config), "db", "sync"]}[program]
    line = only_line(start(command, config))
    assert told in line
    assert "secret" not in line


@pytest.mark.parametrize("program", ["engine", "gunicorn"])
@pytest.mark.parametrize("settings", ["[packages]\nstore = nosuch",
                                      "[engine]\norchestrator = nosuch"])
def test_drivers(tmp_path: Path, program: str, settings: str) -> None:
    config = tmp_path / "wrong.conf"
    config.write_text(f"[database]\nconnection = sqlite:///{tmp_path}/x.sqlite\n{settings}\n")
    command = [*ENGINE, str(config)] if program == "engine" else GUNICORN
    assert "driver nosuch" in only_line(start(command, config))


def test_port_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = only_line(run("--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path)))
    assert "--port" in line


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--data-dir" in refused("--data-dir", str(tmp_path / "file" / "data"))


def test_command_line() -> None:
    """A value that is none was told by oslo.config, without the program's name."""
    assert "--port" in only_line(run("--port", "abc"))


def test_two_signals_at_once(start_service: Callable[..., Running]) -> None:
    """Programs such as timeout send one to their child and one to its group; it could hang."""
    for _ in range(3):
        service = start_service("data")
        service.below()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            service.process.send_signal(number)
        assert service.wait() == 0


def test_other_machines(tmp_path: Path) -> None:
    """Nobody is asked who they are, so nobody else is let in unless that is meant."""
    line = refused("--data-dir", str(tmp_path), "--host", "0.0.0.0")
    assert "insecure_noauth_everywhere" in line


@pytest.mark.parametrize("host", ["::1", "localhost", "127.0.0.1", "0.0.0.0"])
def test_any_port(tmp_path: Path, start_service: Callable[..., Running], host: str) -> None:
    """--port 0 printed a URL with port 0."""
    settings = "[api]\ninsecure_noauth_everywhere = true\n" if host == "0.0.0.0" else ""
    service = start_service("data", "--port", "0", "--host", host, settings=settings)
    assert not service.url.endswith(":0")
    assert f"curl {service.url}/v1/runtimes" in service.log
    assert service.api().request("GET", "/v1/runtimes").status_code == 200
