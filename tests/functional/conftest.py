# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a running service, and clients of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import databases
from tests.functional import given
from tests.functional.client import Api
from tests.functional.deployment import Deployment
from tests.functional.given import Target
from tests.functional.ledger import Ledger
from tests.functional.running import Running


@pytest.fixture(scope="session")
def services(
    tmp_path_factory: pytest.TempPathFactory,
    database_servers: Callable[[str], databases.Server],
) -> Iterator[Callable[[str], Running]]:
    """Return the service on a kind of database that the tests of this session share."""
    started: dict[str, Running] = {}

    def find(kind: str) -> Running:
        if kind not in started:
            # The functions of the tests before need no workers any more.
            settings = "[engine]\nfunction_service_expiration = 60\n"
            if kind != "sqlite":
                settings += f"[database]\nconnection = {database_servers(kind).new_schema()}\n"
            folder = tmp_path_factory.mktemp(f"service-{kind}")
            started[kind] = Running(folder / "data", settings=settings)
        return started[kind].wait_ready()

    yield find
    for running in started.values():
        _end(running)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, database_kind: str) -> Target:
    """Return what is called: a deployment that is given, or else the service that tests share."""
    found = given.find(request.config)
    if found is not None:
        return found
    return request.getfixturevalue("services")(database_kind)


@pytest.fixture(scope="session")
def service(target: Target) -> Running:
    """Run one service for all tests that look at it from inside, but need none of their own."""
    assert isinstance(target, Running)
    return target


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start services of a test's own.

    The first argument is the name of the data directory below the test's own; ``ready=False``
    does not wait for it.
    """
    started: list[Running] = []

    def start(name: str = "data", *arguments: str, ready: bool = True, **options: Any) -> Running:
        running = Running(tmp_path / name, *arguments, **options)
        started.append(running)
        return running.wait_ready() if ready else running

    yield start
    for running in started:
        if running.process.poll() is None:
            _end(running)


@pytest.fixture
def deploy(tmp_path: Path, database_server: databases.Server) -> Iterator[
        Callable[..., Deployment]]:
    """Start deployments of a test's own, on an empty schema of the test's database.

    The arguments are those of :class:`tests.functional.deployment.Deployment` after the URL.
    """
    started: list[Deployment] = []

    def start(**options: Any) -> Deployment:
        folder = tmp_path / f"deployment-{len(started)}"
        folder.mkdir()
        started.append(Deployment(folder, database_server.new_schema(), **options))
        return started[-1]

    yield start
    for deployment in started:
        deployment.stop()


@pytest.fixture(scope="session")
def session_api(target: Target) -> Iterator[Api]:
    """Call the shared service; for fixtures that live as long as it."""
    caller = target.api()
    yield caller
    caller.close()


@pytest.fixture
def api(target: Target) -> Iterator[Api]:
    """Call the shared service as the default project."""
    caller = target.api()
    yield caller
    caller.close()


@pytest.fixture
def caller_of(target: Target) -> Iterator[Callable[..., Api]]:
    """Call a service, the shared one by default, as another project or with other roles."""
    callers: list[Api] = []

    def make(running: Running | None = None, **options: str) -> Api:
        callers.append((running or target).api(**options))
        return callers[-1]

    yield make
    for caller in callers:
        caller.close()


@pytest.fixture
def mark() -> str:
    """What is in the command line of processes of a function, which run on this machine."""
    return f"mark-{uuid.uuid4().hex}"


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """Take down what functions write that run ``ledger.MODULE``."""
    opened = Ledger()
    yield opened
    opened.close()


def _end(running: Running) -> None:
    code = running.stop()
    assert code == 0, f"exit code {code}\n{running.log[-4000:]}"
    assert "Traceback" not in running.log, running.log[-6000:]
