# SPDX-License-Identifier: Apache-2.0
"""Small things that every request passes: its id, and OPTIONS."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

_VALID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class RequestId:
    """Gives every request an id, tells it in the reply, and keeps one that the caller sent.

    The names are those of oslo.middleware: ``openstack.request_id`` for the service's own id,
    ``openstack.global_request_id`` for the caller's.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        request_id = f"req-{uuid.uuid4()}"
        environ["openstack.request_id"] = request_id
        given = environ.get("HTTP_X_OPENSTACK_REQUEST_ID", "")
        if _VALID.match(given):
            environ["openstack.global_request_id"] = given

        def begin(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            added = [("X-Openstack-Request-Id", request_id),
                     ("X-Content-Type-Options", "nosniff")]
            return start(status, headers + added, *rest)

        return self._application(environ, begin)


class Options:
    """Answers OPTIONS of every path of the version, as Qinling's CORS middleware did."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        if environ["REQUEST_METHOD"] == "OPTIONS" and environ.get("PATH_INFO", "/") != "/":
            start("200 OK", [("Content-Length", "0")])
            return []
        return self._application(environ, start)
