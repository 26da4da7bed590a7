# SPDX-License-Identifier: Apache-2.0
"""A thin HTTP client that holds every reply to the rules which hold for all of them."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

import requests

from tests.functional import processes

HELLO = "def main(name='World', **kwargs):\n    return 'Hello, %s' % name\n"
REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What must never be in an error: SQL, Python's types, tracebacks, paths, HTML.
LEAKS = re.compile(r"<class '|Traceback|\bSELECT\b|\bINSERT INTO\b|sqlalche|sqlite3?\.|psycopg"
                   r"|<html|/site-packages/|object has no attribute|invalid literal for")


def make_zip(files: dict[str, str | bytes]) -> bytes:
    """Return a zip with these files, always the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for name, content in files.items():
            package.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


class Api:
    """A caller.

    :param project: value of X-Project-Id; None: the header is not sent.
    :param roles: value of X-Roles.
    :param token: value of X-Auth-Token.
    """

    def __init__(self, url: str, project: str | None = None, roles: str | None = None,
                 token: str | None = None) -> None:
        self.url = url
        self.project = project or "default"
        self.session = requests.Session()
        self.session.trust_env = False
        self.headers = {"Accept": "application/json"}
        if project is not None:
            self.headers["X-Project-Id"] = project
        if roles is not None:
            self.headers["X-Roles"] = roles
        if token is not None:
            self.headers["X-Auth-Token"] = token

    def close(self) -> None:
        """Close its connections."""
        self.session.close()

    def request(self, method: str, path: str, headers: dict[str, str | None] | None = None,
                timeout: float = 60, **options: Any) -> requests.Response:
        """Send a request; the reply is no 5xx and, when it is an error, a clean one."""
        reply = self.session.request(
            method, self.url + path, headers={**self.headers, **(headers or {})},
            timeout=timeout, allow_redirects=False, **options,
        )
        check_reply(method, reply)
        return reply

    def ok(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """Send a request that succeeds with this status; return the JSON of the reply."""
        reply = self.request(method, path, **options)
        assert reply.status_code == status, (method, path, reply.status_code, reply.text[:500])
        return reply.json() if reply.content else None

    def refused(self, method: str, path: str, status: int, **options: Any) -> str:
        """Send a request that is refused with this status; return the faultstring."""
        reply = self.request(method, path, **options)
        assert reply.status_code == status, (method, path, reply.status_code, reply.text[:500])
        return str(reply.json()["faultstring"])

    def runtime(self, name: str = "python3") -> str:
        """Return the id of a runtime."""
        runtimes = self.ok("GET", "/v1/runtimes")["runtimes"]
        return str(next(item["id"] for item in runtimes if item["name"] == name))

    def new_runtime(self, name: str = "python3") -> None:
        """Make a runtime, and wait until functions can be made for it."""
        made = self.ok("POST", "/v1/runtimes", 201, json={"name": name, "image": name})
        path = f"/v1/runtimes/{made['id']}"
        assert processes.wait_for(lambda: self.ok("GET", path)["status"] == "available", 30)

    def function(self, code: str | dict[str, str | bytes] = HELLO, **fields: Any) -> str:
        """Make a function of one module's text, or of files; return its id."""
        files = {"main.py": code} if isinstance(code, str) else code
        values = {"name": "f", "code": json.dumps({"source": "package"}), "entry": "main.main",
                  "runtime_id": None, **fields}
        values["runtime_id"] = values["runtime_id"] or self.runtime()
        made = self.ok("POST", "/v1/functions", 201, data=values,
                       files={"package": ("f.zip", make_zip(files))})
        return str(made["id"])

    def run(self, function_id: str, given: Any = None, **fields: Any) -> dict[str, Any]:
        """Run a function; ``given`` is the input, encoded here unless it is text."""
        body = {"function_id": function_id, **fields}
        if given is not None:
            body["input"] = given if isinstance(given, str) else json.dumps(given)
        return dict(self.ok("POST", "/v1/executions", 201, json=body))

    def show(self, execution_id: str) -> dict[str, Any]:
        """Return an execution."""
        return dict(self.ok("GET", f"/v1/executions/{execution_id}"))

    def log(self, execution_id: str, **headers: str) -> bytes:
        """Return an execution's log."""
        reply = self.request("GET", f"/v1/executions/{execution_id}/log",
                             headers={"Accept": "text/plain", **headers})
        assert reply.status_code in (200, 206), reply.text
        assert reply.headers["Content-Type"].lower() == "text/plain; charset=utf-8"
        return reply.content

    def ended(self, execution_id: str, seconds: float = 30) -> dict[str, Any]:
        """Wait for an execution's end and return it."""
        processes.wait_for(lambda: self.show(execution_id)["status"] != "running", seconds)
        found = self.show(execution_id)
        assert found["status"] != "running", found
        return found

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        """Return one page of executions."""
        return list(self.ok("GET", "/v1/executions", params=query)["executions"])


def check_reply(method: str, reply: requests.Response) -> None:
    """Hold a reply to the rules for all replies."""
    where = (method, reply.url[:200], reply.status_code, reply.text[:500])
    assert reply.status_code < 500, where
    assert REQUEST_ID.fullmatch(reply.headers.get("X-Openstack-Request-Id", "")), where
    if reply.status_code == 204:
        assert reply.content == b"", where
    if reply.status_code < 400 or method == "HEAD":
        return
    assert reply.headers["Content-Type"].partition(";")[0] == "application/json", where
    fault = reply.json()
    assert set(fault) in ({"faultstring"}, {"faultstring", "faultcode", "debuginfo"}), where
    assert isinstance(fault["faultstring"], str) and fault["faultstring"], where
    assert fault.get("faultcode", "Client") == "Client", where
    assert fault.get("debuginfo") is None, where
    assert not LEAKS.search(fault["faultstring"]), where


def result(execution: dict[str, Any]) -> dict[str, Any]:
    """Return an execution's result as JSON."""
    value = json.loads(execution["result"])
    assert isinstance(value, dict)
    return value


def output(execution: dict[str, Any]) -> Any:
    """Return what the function returned."""
    return result(execution)["output"]
