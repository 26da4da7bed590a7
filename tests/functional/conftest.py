# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a running service, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.client import Api
from tests.functional.running import Running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one service for all tests that do not need one of their own."""
    running = Running(tmp_path_factory.mktemp("service") / "data").wait_ready()
    yield running
    _end(running)


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


@pytest.fixture(scope="session")
def session_api(service: Running) -> Iterator[Api]:
    """Call the shared service; for fixtures that live as long as it."""
    caller = service.api()
    yield caller
    caller.close()


@pytest.fixture
def api(service: Running) -> Iterator[Api]:
    """Call the shared service as the default project."""
    caller = service.api()
    yield caller
    caller.close()


@pytest.fixture
def caller_of(service: Running) -> Iterator[Callable[..., Api]]:
    """Call a service, the shared one by default, as another project or with other roles."""
    callers: list[Api] = []

    def make(running: Running | None = None, **options: str) -> Api:
        callers.append((running or service).api(**options))
        return callers[-1]

    yield make
    for caller in callers:
        caller.close()


def _end(running: Running) -> None:
    code = running.stop()
    assert code == 0, f"exit code {code}\n{running.log[-4000:]}"
    assert "Traceback" not in running.log, running.log[-6000:]
