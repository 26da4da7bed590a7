# SPDX-License-Identifier: Apache-2.0
"""A Keystone of the tests' own: the published one, on SQLite."""

from __future__ import annotations

import getpass
import grp
import json
import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

import requests

from tests.functional import environments, processes
from tests.functional.running import free_port

RELEASE = "keystone==30.0.0"
_PASSWORD = "of-the-tests-only"
_CONFIGURATION = """\
[DEFAULT]
log_file = {folder}/keystone.log
[database]
connection = sqlite:///{folder}/keystone.sqlite
[identity]
password_hash_rounds = 4
[token]
provider = fernet
expiration = {expiration}
[fernet_tokens]
key_repository = {folder}/fernet
[fernet_receipts]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credentials
"""
# The commands of keystone-manage, in one process each; what they import takes longer than they do.
_MANAGE = """\
import json, os, sys
from keystone.cmd import cli
for words in json.loads(sys.argv[2]):
    child = os.fork()
    if child == 0:
        sys.argv = ["keystone-manage", "--config-file", sys.argv[1], *words]
        cli.main(sys.argv)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""
_SERVE = """\
import sys
from werkzeug.serving import run_simple
port = int(sys.argv.pop())  # Keystone takes the arguments for its own
from keystone.wsgi.api import application
run_simple("127.0.0.1", port, application, threaded=True)
"""


class Keystone:
    """One identity service.

    :param folder: where it keeps everything.
    :param original: one whose users and keys it shares.
    :param expiration: seconds that its tokens are valid.
    """

    def __init__(self, folder: Path, original: Keystone | None = None,
                 expiration: int = 3600) -> None:
        self._bin = environments.ready("keystone", RELEASE)
        self._folder = folder
        self._session = requests.Session()
        self._session.trust_env = False
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v3"
        self._ids: dict[tuple[str, str], str] = {}
        folder.mkdir(exist_ok=True)
        (folder / "keystone.conf").write_text(_CONFIGURATION.format(
            folder=original._folder if original else folder, expiration=expiration))
        if original is None:
            self._set_up()
        self.start()
        self._admin = self.token("admin", "admin")

    def _set_up(self) -> None:
        for name in ("fernet", "credentials"):
            (self._folder / name).mkdir(mode=0o700)
        user = ["--keystone-user", getpass.getuser(),
                "--keystone-group", grp.getgrgid(os.getgid()).gr_name]
        urls = [word for kind in ("admin", "internal", "public")
                for word in (f"--bootstrap-{kind}-url", self.url)]
        commands = [
            ["db_sync"], ["fernet_setup", *user], ["credential_setup", *user],
            ["bootstrap", "--bootstrap-password", _PASSWORD, "--bootstrap-region-id", "RegionOne",
             *urls],
        ]
        command = [self._bin / "python", "-W", "ignore", "-c", _MANAGE,
                   self._folder / "keystone.conf", json.dumps(commands)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                [self._bin / "python", "-W", "ignore", "-c", _SERVE, str(self.port)],
                env={**os.environ, "OS_KEYSTONE_CONFIG_FILES": f"{self._folder}/keystone.conf"},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )
        process = self._process
        processes.wait_for(lambda: process.poll() is not None or self._answers(), 180)
        if not self._answers():
            self.stop()
            raise AssertionError((self._folder / "server.log").read_text()[-3000:])

    def stop(self) -> None:
        """End it; its port is kept."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def pause(self) -> None:
        """Let it take connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        self.stop()
        self._session.close()

    def _answers(self) -> bool:
        try:
            return self._session.get(self.url, timeout=5).ok
        except requests.ConnectionError:
            return False

    def user(self, name: str, project: str, *roles: str) -> None:
        """Make a user, of the same password as all, with roles in a project."""
        made = self._made("user", name, password=_PASSWORD)
        within = self._made("project", project)
        for role in roles:
            self.ask("PUT", f"/projects/{within}/users/{made}/roles/{self._found('role', role)}")

    def domain_admin(self, name: str) -> None:
        """Make a user that is an administrator of the domain and of the whole system."""
        made, role = self._made("user", name, password=_PASSWORD), self._found("role", "admin")
        self.ask("PUT", f"/domains/default/users/{made}/roles/{role}")
        self.ask("PUT", f"/system/users/{made}/roles/{role}")

    def service(self, name: str, kind: str, url: str) -> dict[str, str]:
        """Put a service into the catalogue; return its public endpoint."""
        service = self.ask("POST", "/services", {"service": {"name": name, "type": kind}})
        made: dict[str, dict[str, str]] = {}
        for interface in ("public", "internal", "admin"):
            made[interface] = self.ask("POST", "/endpoints", {"endpoint": {
                "service_id": service["service"]["id"], "interface": interface, "url": url,
                "region_id": "RegionOne",
            }})["endpoint"]
        return made["public"]

    def withdraw(self, name: str) -> None:
        """Take a service out of the catalogue."""
        for service in self.ask("GET", f"/services?name={name}")["services"]:
            self.ask("DELETE", f"/services/{service['id']}")

    def limits(self, endpoint: dict[str, str], limits: dict[str, int]) -> None:
        """Register the limits that projects have of a service's resources."""
        self.ask("POST", "/registered_limits", {"registered_limits": [
            {**_place(endpoint), "resource_name": name, "default_limit": limit}
            for name, limit in limits.items()]})

    def project_limit(self, endpoint: dict[str, str], project: str, name: str,
                      limit: int) -> None:
        """Give a project another limit."""
        self.ask("POST", "/limits", {"limits": [
            {**_place(endpoint), "project_id": self.project_id(project), "resource_name": name,
             "resource_limit": limit}]})

    def reading_limits(self) -> str:
        """Return settings of an account that reads the limits of all projects."""
        made = self._made("user", "limits-reader", password=_PASSWORD)
        self.ask("PUT", f"/system/users/{made}/roles/{self._found('role', 'reader')}")
        return (f"auth_type = password\nauth_url = {self.url}\nusername = limits-reader\n"
                f"password = {_PASSWORD}\nuser_domain_id = default\nsystem_scope = all\n")

    def project_id(self, name: str) -> str:
        """Return a project's id."""
        return self._found("project", name)

    def token(self, user: str, project: str | None = None, **scope: Any) -> str:
        """Return a new token; without a project and scope, an unscoped one."""
        domain = {"id": "default"}
        named = {"name": user, "domain": domain, "password": _PASSWORD}
        if project is not None:
            scope = {"project": {"name": project, "domain": domain}}
        return self._authenticated({"methods": ["password"], "password": {"user": named}},
                                   scope=scope or "unscoped")

    def _authenticated(self, identity: dict[str, Any], **more: Any) -> str:
        body = {"identity": identity, **more}
        reply = self._session.post(f"{self.url}/auth/tokens", json={"auth": body}, timeout=30)
        assert reply.status_code == 201, reply.text
        return reply.headers["X-Subject-Token"]

    def application_credential(self, user: str, project: str,
                               rules: list[dict[str, str]]) -> str:
        """Return a token of an application credential that may do so much of what a user may."""
        own = {"X-Auth-Token": self.token(user, project)}
        path = f"/users/{self._found('user', user)}/application_credentials"
        made = self.ask("POST", path, {"application_credential": {
            "name": str(uuid.uuid4()), "access_rules": rules}}, own)["application_credential"]
        return self._authenticated({
            "methods": ["application_credential"],
            "application_credential": {"id": made["id"], "secret": made["secret"]}})

    def revoke(self, token: str) -> None:
        """Make a token worthless."""
        self.ask("DELETE", "/auth/tokens", headers={"X-Subject-Token": token})

    def environment(self, user: str, project: str) -> dict[str, str]:
        """Return what the command line reads, for a user."""
        return {
            "OS_AUTH_URL": self.url, "OS_USERNAME": user, "OS_PASSWORD": _PASSWORD,
            "OS_PROJECT_NAME": project, "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default", "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": "RegionOne",
        }

    def settings(self, user: str, project: str) -> str:
        """Return the service's configuration for it, with the service's own account."""
        return (
            "[keystone_authtoken]\nauth_type = password\n"
            f"www_authenticate_uri = {self.url}\nauth_url = {self.url}\nusername = {user}\n"
            f"password = {_PASSWORD}\nproject_name = {project}\nuser_domain_id = default\n"
            "project_domain_id = default\n"
        )

    def ask(self, method: str, path: str, body: Any = None,
            headers: dict[str, str] | None = None) -> Any:
        """Call it as the administrator."""
        reply = self._session.request(
            method, self.url + path, json=body, timeout=30,
            headers={"X-Auth-Token": self._admin, **(headers or {})},
        )
        assert reply.ok, (method, path, reply.status_code, reply.text)
        return reply.json() if reply.content else None

    def _made(self, kind: str, name: str, **fields: Any) -> str:
        """Return the id of a user or project, which is made when it is not there."""
        if (kind, name) not in self._ids:
            body = {kind: {"name": name, "domain_id": "default", **fields}}
            self._ids[kind, name] = self.ask("POST", f"/{kind}s", body)[kind]["id"]
        return self._ids[kind, name]

    def _found(self, kind: str, name: str) -> str:
        if (kind, name) not in self._ids:
            (found,) = self.ask("GET", f"/{kind}s?name={name}")[f"{kind}s"]
            self._ids[kind, name] = found["id"]
        return self._ids[kind, name]


def _place(endpoint: dict[str, str]) -> dict[str, str]:
    return {"service_id": endpoint["service_id"], "region_id": endpoint["region_id"]}
