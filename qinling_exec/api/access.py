# SPDX-License-Identifier: Apache-2.0
"""Every request is counted, timed and, if wanted, written down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from qinling_exec import metrics, tracing
from qinling_exec.context import RequestContext

LOG = logging.getLogger(__name__)
#: Parts of paths that are not the name or id of something.
_WORDS = frozenset({
    "v1", "executions", "functions", "runtimes", "aliases", "versions", "workers", "log", "pool",
    "scale_up", "scale_down", "detach", "cancel", "openapi.json",
})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LONGEST = 500


class Access:
    """Stands around all that answers.

    :param written: whether each request gets a line in the log.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], written: bool) -> None:
        self._application = application
        self._written = written

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        # The thread's context is still that of its last request.
        RequestContext(request_id=environ.get("openstack.request_id"),
                       global_request_id=environ.get("openstack.global_request_id"))
        began = time.perf_counter()
        status = "500"

        def begin(line: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal status
            status = line[:3]
            return start(line, headers, *rest)

        path = route(environ.get("PATH_INFO", ""))
        with tracing.request(environ.get("openstack.request_id", ""),
                             f"{environ.get('REQUEST_METHOD', '')[:20]} {path}") as attributes:
            try:
                return self._application(environ, begin)
            finally:
                attributes |= {"http.route": path, "http.response.status_code": int(status)}
                self._note(environ, path, status, time.perf_counter() - began)

    def _note(self, environ: dict[str, Any], named: str, status: str, seconds: float) -> None:
        method = environ.get("REQUEST_METHOD", "")
        labels = (method if method in _METHODS else "other",
                  named if status != "404" else "other")
        metrics.REQUESTS.labels(*labels, status).inc()
        metrics.REQUEST_SECONDS.labels(*labels).observe(seconds)
        if self._written:
            path = environ.get("PATH_INFO", "")
            if environ.get("QUERY_STRING"):
                path += f"?{environ['QUERY_STRING']}"
            LOG.info('%s "%s %s" %s %.4f', environ.get("REMOTE_ADDR") or "-", method[:20],
                     _printable(path), status, seconds)


def route(path: str) -> str:
    """Return a path with ``{}`` for what names an object, and so one out of few."""
    parts = path.strip("/").split("/")
    if parts == [""]:
        return "/"
    if parts[0] != "v1" or len(parts) > 6:
        return "other"
    return "/" + "/".join(part if part in _WORDS else "{}" for part in parts)


def _printable(text: str) -> str:
    """Return what can't end the line that it is written to."""
    kept = "".join(one if " " < one <= "~" else "?" for one in text[:_LONGEST])
    return kept if len(text) <= _LONGEST else f"{kept}..."
