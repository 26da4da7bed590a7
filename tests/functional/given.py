# SPDX-License-Identifier: Apache-2.0
"""A deployment that is there already: the tests call it, and leave it as it was.

``pytest tests/functional --deployment URL [--os-cloud NAME]``; the contributor guide says more.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from typing import Any

import pytest
import requests

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.ledger import FAR
from tests.functional.running import Running

_SERVICE_TYPE = "function-engine"
#: In this order: what is used goes after what uses it.
_KINDS = ("/v1/aliases", "/v1/executions", "/v1/functions", "/v1/runtimes")
_NEAR = "their functions have to reach the machine of the tests (QINLING_EXEC_TEST_HOST)"
#: Fixtures of tests that are not for the service of somebody else, and why not.
_OWN = {
    "start_service": "they start, stop or configure a service of their own",
    "keystone": "they start, stop or configure a service of their own",
    "deploy": "they start, stop or configure a service of their own",
    "service": "they look at the service's processes, files, log or socket",
    "ledger": _NEAR,
    "talk": _NEAR,
    "mark": _NEAR,
}
_HEADERS = "their callers are made up of headers, which Keystone does not believe"
_SKIPPED = pytest.StashKey[Counter[tuple[str, str]]]()
#: Tests left out for one reason that are named one by one.
_FEW = 20


class Given:
    """The deployment.

    :param url: of its API; may be empty when a cloud's catalogue has it.
    :param cloud: name in clouds.yaml; empty for one that believes headers.
    """

    def __init__(self, url: str, cloud: str, runtime: str) -> None:
        self.session = _session(cloud) if cloud else None
        self.runtime = runtime
        if not url and self.session is not None:
            url = self.session.get_endpoint(service_type=_SERVICE_TYPE) or ""
        if not url:
            raise pytest.UsageError(f"The cloud's catalogue has no {_SERVICE_TYPE}: say"
                                    " --deployment URL.")
        self.url = url.rstrip("/").removesuffix("/v1")

    def api(self, **options: str) -> Guest:
        """Return a client of it."""
        return Guest(self, **options)


class Guest(Api):
    """A caller that takes what it has made with it when it goes."""

    def __init__(self, given: Given, **options: str) -> None:
        super().__init__(given.url, **options)
        self._given = given
        self._made: list[str] = []
        if given.session is not None:
            self.project = str(given.session.get_project_id())
            self.session.verify = given.session.verify
            self._renew()

    def request(self, method: str, path: str, headers: dict[str, str | None] | None = None,
                timeout: float = 60, **options: Any) -> requests.Response:
        """Send a request, and remember what it made."""
        self._renew()
        reply = super().request(method, path, headers, timeout, **options)
        kind = path.partition("?")[0]
        if method == "POST" and kind in _KINDS and reply.status_code == 201:
            made = reply.json()
            self._made.append(f"{kind}/{made['name' if kind == _KINDS[0] else 'id']}")
        return reply

    def _renew(self) -> None:
        """Take the session's token; it gets a new one before the old one expires."""
        if self._given.session is not None:
            self.headers["X-Auth-Token"] = str(self._given.session.get_token())

    def runtime(self, name: str = "python3") -> str:
        """Return the id of a runtime; the given one takes the place of ``python3``."""
        return super().runtime(self._given.runtime if name == "python3" else name)

    def close(self) -> None:
        """Delete what it has made, and close its connections."""
        left = {path: self._gone(path) for kind in _KINDS for path in self._made
                if path.rpartition("/")[0] == kind}
        super().close()
        assert all(left.values()), f"left behind: {[path for path in left if not left[path]]}"

    def _gone(self, path: str) -> bool:
        """Delete an object; what still runs, or is about to end, is in the way for a moment."""
        return bool(processes.wait_for(
            lambda: self.request("DELETE", path).status_code in (204, 404), 20))


Target = Running | Given


def find(config: pytest.Config) -> Given | None:
    """Return the deployment that the tests are for, None when they start one themselves."""
    url, cloud = _named(config)
    return Given(url, cloud, config.getoption("runtime")) if url or cloud else None


def is_named(config: pytest.Config) -> bool:
    """Tell whether the tests are for a deployment that is there."""
    return any(_named(config))


def _named(config: pytest.Config) -> tuple[str, str]:
    return config.getoption("deployment"), config.getoption("os_cloud")


def _session(cloud: str) -> Any:
    """Return keystoneauth's session of a cloud of clouds.yaml."""
    from openstack import config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the SDK will no longer support
        return config.OpenStackConfig().get_one(cloud=cloud).get_session()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, each with a variable in the environment that says the same."""
    group = parser.getgroup("qinling-exec", "a deployment that is there already")
    for option, variable, default, text in (
        ("--deployment", "DEPLOYMENT", "", "URL of its API"),
        ("--os-cloud", "CLOUD", "", "whose clouds.yaml entry to call it with"),
        ("--runtime", "RUNTIME", "python3", "name of its Python runtime"),
    ):
        variable = f"QINLING_EXEC_TEST_{variable}"
        group.addoption(option, default=os.environ.get(variable, default),
                        help=f"{text}; also {variable}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what is not for a deployment of somebody else's."""
    if not is_named(config):
        return
    reasons = {item: _reason(item, bool(_named(config)[1])) for item in items}
    config.stash[_SKIPPED] = Counter(
        (reason, item.nodeid.partition("[")[0]) for item, reason in reasons.items() if reason)
    config.hook.pytest_deselected(items=[item for item in items if reasons[item]])
    items[:] = [item for item in items if not reasons[item]]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say what was taken out, and why; by name while it is little."""
    skipped = config.stash.get(_SKIPPED, Counter[tuple[str, str]]())
    lines = []
    for reason in sorted({reason for reason, _ in skipped}):
        names = [name for why, name in skipped if why == reason]
        count = sum(skipped[reason, name] for name in names)
        lines.append(f"{count} tests are not for a deployment that is there: {reason}")
        lines += [f"  left out: {name}" for name in names if len(names) <= _FEW]
    return lines


def _reason(item: pytest.Item, keystone: bool) -> str:
    """Return why a test is not for the deployment, nothing when it is."""
    names = getattr(item, "fixturenames", ())
    for name, reason in _OWN.items():
        if name in names and not (reason == _NEAR and FAR):
            return reason
    with contextlib.suppress(StopIteration):
        return str(next(item.iter_markers("own_service")).args[0])
    if keystone and ("caller_of" in names or item.get_closest_marker("noauth")):
        return _HEADERS
    return "" if "target" in names else "they do not call the service that tests share"
