# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the scenarios."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import databases
from tests.databases.proxy import Proxy
from tests.functional.client import Api
from tests.functional.deployment import Deployment
from tests.functional.running import Running
from tests.reliability.history import History
from tests.reliability.ledger import Ledger

Start = Callable[..., Running]
Clients = Callable[..., History]
#: Of the shared deployments, in seconds; long enough that a busy machine does not lose it.
LEASE = 5
#: Within which a dead runner's executions have been taken care of.
REAPED = LEASE + 2
FUNCTIONS = Path(__file__).with_name("functions")
#: "all" runs every scenario on every database; else those that are marked with ``in_ci``.
WANTED = os.environ.get("QINLING_EXEC_TEST_RELIABILITY", "in_ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes minutes, unless it is asked for."""
    skipped = pytest.mark.skip(reason="NOT RUN, it takes minutes: tox -e reliability runs it")
    for item in items:
        if Path(__file__).parent in item.path.parents and not _is_wanted(item):
            item.add_marker(skipped)


def _is_wanted(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("in_ci")
    if WANTED == "all" or marker is None:
        return WANTED == "all"
    callspec = getattr(item, "callspec", None)
    return not marker.args or callspec is None or callspec.params["database_kind"] in marker.args


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """Return a ledger of the test's own."""
    with Ledger() as book:
        yield book


def make_function(api: Api, name: str = "witness", **fields: Any) -> str:
    """Make one of the functions of the scenarios; return its id."""
    return api.function((FUNCTIONS / f"{name}.py").read_text(), **{"timeout": 60, **fields})


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start embedded services that may be killed; the first argument names the data folder."""
    started: list[Running] = []

    def start(name: str = "data", **options: Any) -> Running:
        running = Running(tmp_path / name, **options)
        started.append(running)
        return running.wait_ready()

    yield start
    for running in started:
        if running.process.poll() is None:
            running.stop()


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory,
          database_servers: Callable[[str], databases.Server]
          ) -> Iterator[Callable[[str], Deployment]]:
    """Return the deployment on a kind of database that the tests of this session share."""
    made: dict[str, Deployment] = {}

    def find(kind: str) -> Deployment:
        if kind not in made:
            folder = tmp_path_factory.mktemp(f"site-{kind}")
            made[kind] = Deployment(folder, database_servers(kind).new_schema(),
                                    settings={"engine": {"lease_seconds": LEASE}})
        return made[kind]

    yield find
    for deployment in made.values():
        deployment.stop()


@pytest.fixture
def site(sites: Callable[[str], Deployment], database_kind: str) -> Iterator[Site]:
    """Return a deployment with one API process and no engine: the test starts its own."""
    deployment = sites(database_kind)
    end_engines(deployment)
    here = Site(deployment)
    yield here
    here.close()
    end_engines(deployment)


def end_engines(deployment: Deployment) -> None:
    """Leave one API process and no engine."""
    for item in (*deployment.apis[1:], *deployment.engines):
        if item.process.poll() is None:
            item.kill()
    del deployment.apis[1:]


class Site:
    """A deployment as one test sees it: with a project of its own."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.project = f"p-{uuid.uuid4().hex[:12]}"
        self._histories: list[History] = []

    def function(self, name: str = "witness", **fields: Any) -> str:
        """Make one of the functions of the scenarios; return its id."""
        api = self.deployment.api(project=self.project)
        return make_function(api, name, runtime_id=self.deployment.runtime, **fields)

    def client(self, *apis: int, **options: Any) -> History:
        """Return a client with a memory, of the API processes with these numbers."""
        urls = [self.deployment.apis[number].url for number in apis or (0,)]
        self._histories.append(History(urls, options.pop("project", self.project), **options))
        return self._histories[-1]

    def close(self) -> None:
        """Close the clients."""
        for history in self._histories:
            history.close()


@pytest.fixture
def settings(database_server: databases.Server, database_kind: str) -> str:
    """Return settings for a database of the test's own, a file of the service's with SQLite."""
    if database_kind == "sqlite":
        return ""
    return f"[database]\nconnection = {database_server.new_schema()}\n"


@pytest.fixture
def client() -> Iterator[Callable[..., History]]:
    """Return clients with a memory."""
    made: list[History] = []

    def make(service: Running, **options: Any) -> History:
        made.append(History([service.url], **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def proxy(database_server: databases.Server) -> Iterator[Proxy]:
    """Return a proxy before the shared server."""
    with Proxy(database_server.port) as between:
        yield between


@pytest.fixture
def url(database_server: databases.Server) -> str:
    """Return the address of a database of the test's own, not through the proxy."""
    return database_server.new_schema()


@pytest.fixture
def service(start_service: Start, database_server: databases.Server, url: str,
            proxy: Proxy) -> Running:
    """Start a service that reaches its database through the proxy."""
    through = database_server.through(proxy.port, url)
    return start_service(settings=f"[database]\nconnection = {through}\n")


def threads_of(service: Running) -> int:
    """Return how many threads the service has."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])
