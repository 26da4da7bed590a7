# SPDX-License-Identifier: Apache-2.0
"""Tokens: who is let in, and what is answered when nobody can be asked."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable

import pytest
import requests

from tests.functional import processes
from tests.functional.client import REQUEST_ID, Api
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone
from tests.functional.running import free_port

Holder = Callable[..., Api]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/openapi.json"])
def test_what_everybody_may_see(deployed: Deployed, path: str) -> None:
    for headers in ({}, {"X-Auth-Token": "nonsense"}):
        reply = requests.get(deployed.url + path, headers=headers, timeout=30,
                             allow_redirects=False)
        assert reply.status_code in (200, 302)


@pytest.mark.parametrize("token", [None, "nonsense", "", "x" * 4000])
@pytest.mark.parametrize("path", ["/v1/executions", "/v1/executions/x/log", "/v1/no", "/v1//"])
def test_without_a_valid_token(keystone: Keystone, deployed: Deployed, path: str,
                               token: str | None) -> None:
    headers = {"X-Project-Id": keystone.project_id("mine"), "X-Roles": "admin",
               "X-Identity-Status": "Confirmed"}
    if token is not None:
        headers["X-Auth-Token"] = token
    reply = requests.get(deployed.url + path, headers=headers, timeout=30)
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"] == f'Keystone uri="{keystone.url}"'
    assert reply.json()["faultstring"] == (
        "The request you have made requires authentication.")


def test_headers_are_not_believed(keystone: Keystone, holder: Holder) -> None:
    """Neither a project nor roles of a caller's own invention, in any of their spellings."""
    caller = holder("reader")
    caller.headers.update({
        "X-Project-Id": keystone.project_id("other"), "X-Tenant-Id": "t", "X-Tenant": "t",
        "X-Roles": "admin", "X-Role": "admin", "X-Is-Admin": "1", "X-Service-Roles": "service",
        "X-Is-Admin-Project": "true", "OpenStack-System-Scope": "all",
    })
    alias = {"name": "a", "function_id": str(uuid.uuid4())}
    assert caller.refused("POST", "/v1/aliases", 403, json=alias)
    assert caller.refused("GET", "/v1/executions?all_projects=true", 403)


def test_a_token_without_a_project(keystone: Keystone, deployed: Deployed) -> None:
    """Also an administrator's of the domain or of the system: objects belong to projects."""
    keystone.domain_admin("cloud-admin")
    for scope in ({}, {"domain": {"id": "default"}}, {"system": {"all": True}}):
        caller = deployed.api(token=keystone.token("cloud-admin", **scope))
        for path in ("/v1/executions", "/v1/runtimes", "/v1/functions?all_projects=true"):
            assert caller.refused("GET", path, 403) == (
                "Operation not allowed: it needs a token for a project.")
        caller.close()


def test_revoked_token(keystone: Keystone, start_deployed: Callable[..., Deployed]) -> None:
    """At once when nothing is cached; else when the cache's time is over."""
    running = start_deployed(keystone.settings("qinling", "service") + "token_cache_time = -1\n")
    token = keystone.token("mine-reader", "mine")
    caller = running.api(token=token)
    caller.ok("GET", "/v1/executions")
    keystone.revoke(token)
    caller.refused("GET", "/v1/executions", 401)
    caller.close()


def test_service_token(keystone: Keystone, deployed: Deployed, holder: Holder) -> None:
    """One of a service is accepted beside the user's; one of somebody else makes it worthless."""
    caller = holder("reader")
    caller.headers["X-Service-Token"] = keystone.token("qinling", "service")
    caller.ok("GET", "/v1/executions")
    caller.headers["X-Service-Token"] = keystone.token("other-admin", "other")
    caller.refused("GET", "/v1/executions", 401)
    caller.headers["X-Service-Token"] = "nonsense"
    caller.refused("GET", "/v1/executions", 401)


def test_tokens_in_memcached(keystone: Keystone, start_deployed: Callable[..., Deployed],
                             holder: Holder) -> None:
    """What is there is used, and when it is away Keystone is asked."""
    program = shutil.which("memcached")
    if program is None:
        pytest.skip("MEMCACHED IS NOT HERE: tokens in it were not tried")
    port = free_port()
    running = start_deployed(keystone.settings("qinling", "service")
                             + f"memcached_servers = 127.0.0.1:{port}\n")
    with subprocess.Popen([program, "-l", "127.0.0.1", "-p", str(port), "-u", "nobody"]) as server:
        try:
            assert processes.wait_for(lambda: _memcached(port), 10)
            caller = holder("reader", running=running)
            for _ in range(3):
                caller.ok("GET", "/v1/executions")
            told = _memcached(port)
            assert (told["curr_items"], told["get_hits"]) == ("1", "2")
        finally:
            server.terminate()
    caller.ok("GET", "/v1/executions")


def _memcached(port: int) -> dict[str, str]:
    """Return what memcached tells of itself, nothing when it is not there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as asked:
        asked.sendall(b"stats\r\n")
        text = b""
        while not text.endswith(b"END\r\n"):
            text += asked.recv(65536)
        return dict(line.split(" ", 2)[1:] for line in text.decode().splitlines()[:-1])
    return {}


class TestKeystoneIsAway:
    """503 and never open; who was let in before goes on while the cache lasts."""

    @staticmethod
    def unavailable(running: Deployed, token: str) -> None:
        reply = requests.get(f"{running.url}/v1/executions", timeout=60,
                             headers={"X-Auth-Token": token, "X-Roles": "admin",
                                      "X-Project-Id": "x", "X-Identity-Status": "Confirmed"})
        assert reply.status_code == 503, reply.text
        assert "faultstring" in reply.json()
        assert REQUEST_ID.fullmatch(reply.headers["X-Openstack-Request-Id"])
        assert int(reply.headers["Retry-After"]) > 0

    def test_down(self, keystone: Keystone, start_deployed: Callable[..., Deployed]) -> None:
        settings = keystone.settings("qinling", "service")
        running = start_deployed(settings + "http_request_max_retries = 0\n")
        known, unknown = (keystone.token("mine-reader", "mine") for _ in range(2))
        caller = running.api(token=known)
        caller.ok("GET", "/v1/executions")
        keystone.stop()
        try:
            caller.ok("GET", "/v1/executions")
            assert "in-process token cache" not in running.log  # auth_token's own would say so
            self.unavailable(running, unknown)
            assert requests.get(f"{running.url}/", timeout=30).status_code == 200
            assert requests.get(f"{running.url}/v1/executions", timeout=30).status_code == 401
        finally:
            keystone.start()
        after = running.api(token=unknown)
        after.ok("GET", "/v1/executions")
        for one in (caller, after):
            one.close()

    def test_hanging(self, keystone: Keystone, start_deployed: Callable[..., Deployed]) -> None:
        settings = keystone.settings("qinling", "service")
        running = start_deployed(settings + "http_connect_timeout = 1\n")
        keystone.pause()
        try:
            self.unavailable(running, "anything")
        finally:
            keystone.go_on()

    def test_own_account_is_refused(self, keystone: Keystone,
                                    start_deployed: Callable[..., Deployed]) -> None:
        settings = keystone.settings("qinling", "service")
        running = start_deployed(settings.replace("password = of", "password = not-of"))
        self.unavailable(running, keystone.token("mine-reader", "mine"))
        assert "not-of-the-tests-only" not in running.log

    def test_not_where_it_is_said_to_be(self, keystone: Keystone,
                                        start_deployed: Callable[..., Deployed]) -> None:
        settings = keystone.settings("qinling", "service")
        running = start_deployed(settings + "region_name = Nowhere\n")
        self.unavailable(running, keystone.token("mine-reader", "mine"))


def test_without_an_account_it_does_not_start(start_deployed: Callable[..., Deployed]) -> None:
    running = start_deployed("", ready=False)
    assert running.wait() != 0
    assert "[keystone_authtoken]" in running.log
