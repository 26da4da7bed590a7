# SPDX-License-Identifier: Apache-2.0
"""What all tests share: databases, and nothing that a test starts is left behind."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from tests import databases, order
from tests.functional import given, processes
from tests.functional.given import (  # noqa: F401 - hooks
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_report_collectionfinish,
)


def pytest_configure(config: pytest.Config) -> None:
    """Take in hooks that this file has of its own already."""
    config.pluginmanager.register(order)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked with ``every_database`` or ``every_server`` once on each kind."""
    if "database_kind" not in metafunc.fixturenames or given.is_named(metafunc.config):
        return
    kinds = databases.chosen()
    if metafunc.definition.get_closest_marker("every_server"):
        kinds = tuple(kind for kind in kinds if kind != "sqlite")
    elif not metafunc.definition.get_closest_marker("every_database"):
        return
    # indirect: what is made for one kind is then thrown away before the next one.
    metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """At the end of the session no process is left that the tests started."""
    yield
    processes.wait_for(lambda: not _left(), 10)
    left = _left()
    processes.kill(left)
    assert left == {}, f"processes are left: {left}"


def _left() -> dict[processes.Key, str]:
    """Return children of this process, and those that were once seen below a service."""
    mine = processes.descendants(os.getpid())
    return {**mine, **processes.alive(processes.SEEN)}


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a program that a test calls sets up for its log ends with the test."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    service = logging.getLogger("qinling_exec")
    level = service.level
    yield
    service.setLevel(level)


@pytest.fixture(scope="session")
def database_kind(request: pytest.FixtureRequest) -> str:
    """Return which database a test runs on; tests without a mark: SQLite."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture(scope="session")
def database_servers(nothing_is_left_running: None) -> Iterator[Callable[[str],
                                                                         databases.Server]]:
    """Return the server of a kind that the tests of this session share.

    A test that stops or breaks its server starts one of its own: ``databases.start(kind)``.
    """
    started: dict[str, databases.Server] = {}

    def find(kind: str) -> databases.Server:
        if kind not in started:
            started[kind] = databases.start(kind)
        started[kind].must_run()
        return started[kind]

    yield find
    for server in started.values():
        server.close()


@pytest.fixture(scope="session")
def database_server(database_kind: str,
                    database_servers: Callable[[str], databases.Server]) -> databases.Server:
    """Return the shared server of the database that a test runs on."""
    return database_servers(database_kind)
