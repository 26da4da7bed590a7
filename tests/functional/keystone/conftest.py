# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a Keystone, the service behind it, and callers with tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.client import Api
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone

ROLES = ("reader", "member", "manager", "admin", "service")
PROJECTS = ("mine", "other")


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Run a Keystone with two projects, a user for each role in each, and one for the service."""
    running = Keystone(tmp_path_factory.mktemp("keystone"))
    running.user("qinling", "service", "service")
    for project in PROJECTS:
        for role in ROLES:
            running.user(f"{project}-{role}", project, role)
    yield running
    running.close()


@pytest.fixture(scope="session")
def deployed(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Run the service behind Keystone, with a runtime."""
    running = Deployed(tmp_path_factory.mktemp("deployed") / "service",
                       keystone.settings("qinling", "service")
                       + "service_type = function-engine\n").wait_ready()
    keystone.service("qinling", "function-engine", running.url)
    admin = running.api(token=keystone.token("mine-admin", "mine"))
    admin.new_runtime()
    admin.close()
    yield running
    code = running.stop()
    assert code == 0, f"exit code {code}\n{running.log[-4000:]}"
    assert "Traceback" not in running.log, running.log[-6000:]


@pytest.fixture
def start_deployed(tmp_path: Path) -> Iterator[Callable[..., Deployed]]:
    """Start services of a test's own; the arguments are those of ``Deployed`` after the folder."""
    started: list[Deployed] = []

    def start(settings: str, ready: bool = True, **options: str) -> Deployed:
        started.append(Deployed(tmp_path / f"service{len(started)}", settings, **options))
        return started[-1].wait_ready() if ready else started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture(scope="session")
def tokens(keystone: Keystone) -> dict[tuple[str, str], str]:
    """A token for each role in each project, by (project, role)."""
    return {(project, role): keystone.token(f"{project}-{role}", project)
            for project in PROJECTS for role in ROLES}


@pytest.fixture
def holder(deployed: Deployed, tokens: dict[tuple[str, str], str]
           ) -> Iterator[Callable[..., Api]]:
    """Call the service as somebody with a role in a project."""
    made: list[Api] = []

    def make(role: str, project: str = "mine", running: Deployed | None = None) -> Api:
        made.append((running or deployed).api(token=tokens[project, role]))
        return made[-1]

    yield make
    for caller in made:
        caller.close()
