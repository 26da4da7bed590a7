# SPDX-License-Identifier: Apache-2.0
"""Calls that use every operation and every sample once, in an order that makes sense."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Ids in the samples.
RUNTIME = "c2b6b4de-95a1-4c3e-9a7f-1f3a8f5f0b02"
FUNCTION = "7d0b1f52-3a2e-4d64-9a0b-2f6a54c2f103"
IMAGE = "e1a5c8d0-6f3b-4f7e-8c55-0b7d3e2a9c04"
EXECUTION = "ab3f7d10-2c6e-4f59-8d1a-6e4b9c0f5d07"
BY_ALIAS = "d85e1b2c-7f4a-4c03-a9b6-3f0c8e7d2a08"
CANCELLED = "4c9e0d17-8b2f-4a36-9e51-d70f3b6a8c09"
MISSING = "5b0c0a3e-0000-4000-8000-000000000000"

MODULE = """
import time


def main(name="World", seconds=0, **kwargs):
    time.sleep(seconds)
    print("greeting", name)
    return "Hello, " + name
"""

_FUNCTION = f"/v1/functions/{FUNCTION}"
_VERSION = f"{_FUNCTION}/versions/1"


@dataclass(frozen=True)
class Call:
    """A request that succeeds.

    :param request: the sample that is sent, as JSON unless there is a ``package``.
    :param package: text of the module in the package that is sent in a form.
    :param reply: the sample that the reply must look like.
    :param until: repeat the call until this member of the reply has this value.
    """

    method: str
    path: str
    status: int = 200
    request: str | None = None
    reply: str | None = None
    package: str | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    until: tuple[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.request or ''}".strip()


def _call(method: str, path: str, sample: str, status: int = 200, **more: Any) -> Call:
    """Return a call whose samples are named alike."""
    request = None if method == "GET" else f"{sample}-request.json"
    return Call(method, path, status, request, f"{sample}-reply.json", **more)


def _order(path: str, sample: str) -> Call:
    """Return a call that is accepted and answered with nothing."""
    return Call("POST", path, 202, f"{sample}-request.json")


CALLS = [
    _call("GET", "/", "api-versions-list"),
    _call("GET", "/v1", "api-version-find", 302),
    _call("GET", "/v1/", "api-version-show"),
    Call("GET", "/v1/openapi.json"),
    _call("GET", "/v1/runtimes", "runtime-list"),
    _call("POST", "/v1/runtimes", "runtime-create", 201),
    _call("GET", f"/v1/runtimes/{RUNTIME}", "runtime-show", until=("status", "available")),
    _call("GET", f"/v1/runtimes/{RUNTIME}/pool", "runtime-pool"),
    _call("PUT", f"/v1/runtimes/{RUNTIME}", "runtime-update"),
    _call("POST", "/v1/functions", "function-create", 201, package=MODULE),
    _call("POST", "/v1/functions", "function-create-image", 201),
    # The first of a function waits for a worker.
    _call("POST", "/v1/executions", "execution-create-async", 201),
    Call("GET", f"/v1/executions/{CANCELLED}", until=("attempts", 1)),
    Call("POST", f"/v1/executions/{CANCELLED}/cancel", reply="execution-cancel-reply.json"),
    _call("POST", "/v1/executions", "execution-create", 201),
    _call("GET", f"/v1/executions/{EXECUTION}", "execution-show"),
    Call("GET", f"/v1/executions/{EXECUTION}/log", reply="execution-log-reply.txt",
         headers={"Accept": "text/plain"}),
    Call("GET", f"/v1/executions/{EXECUTION}/log", 206,
         headers={"Accept": "text/plain", "Range": "bytes=0-7"}),
    Call("GET", f"/v1/executions/{EXECUTION}/log?follow=true", headers={"Accept": "text/plain"}),
    _call("GET", "/v1/functions?limit=1", "function-list"),
    _call("GET", _FUNCTION, "function-show"),
    Call("GET", f"{_FUNCTION}?download=true"),
    _call("GET", f"{_FUNCTION}/workers", "function-workers"),
    _order(f"{_FUNCTION}/scale_up", "function-scale-up"),
    _order(f"{_FUNCTION}/scale_down", "function-scale-down"),
    Call("POST", f"{_FUNCTION}/detach", 202),
    _call("POST", f"{_FUNCTION}/versions", "version-create", 201),
    _order(f"{_VERSION}/scale_up", "version-scale-up"),
    _order(f"{_VERSION}/scale_down", "version-scale-down"),
    Call("POST", f"{_VERSION}/detach", 202),
    _call("POST", "/v1/aliases", "alias-create", 201),
    _call("GET", "/v1/aliases/live", "alias-show"),
    _call("GET", "/v1/aliases", "alias-list"),
    _call("POST", "/v1/executions", "execution-create-alias", 201),
    Call("GET", f"/v1/executions/{BY_ALIAS}", until=("status", "success")),
    _call("GET", "/v1/executions?status=success&sort=created_at:asc&limit=1", "execution-list"),
    _call("GET", f"{_FUNCTION}/versions", "version-list"),
    _call("GET", _VERSION, "version-show"),
    Call("GET", f"{_VERSION}?download=true"),
    Call("GET", f"{_FUNCTION}/workers", until=("workers", [])),
    _call("PUT", "/v1/aliases/live", "alias-update"),
    _call("PUT", _FUNCTION, "function-update", package=f"{MODULE}# changed\n"),
    Call("DELETE", f"/v1/executions/{BY_ALIAS}", 204),
    Call("DELETE", f"/v1/executions/{EXECUTION}", 204),
    Call("DELETE", "/v1/aliases/live", 204),
    Call("DELETE", _VERSION, 204),
    Call("DELETE", _FUNCTION, 204),
    Call("DELETE", f"/v1/functions/{IMAGE}", 204),
    Call("DELETE", f"/v1/runtimes/{RUNTIME}", 204),
]
