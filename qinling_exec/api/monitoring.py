# SPDX-License-Identifier: Apache-2.0
"""/healthcheck for load balancers and /metrics for Prometheus."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from qinling_exec import exceptions
from qinling_exec.health import Health
from qinling_exec.metrics import Metrics

_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_VIA",
              "HTTP_X_REAL_IP")


class Monitoring:
    """Answers both, and nothing else; they need no token.

    :param networks: whose hosts may see more than whether all is well.
    :raises qinling_exec.exceptions.InputError: one is no network.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], health: Health,
                 metrics: Metrics, networks: Sequence[str]) -> None:
        self._application = application
        self._health = health
        self._metrics = metrics
        try:
            self._networks = [ipaddress.ip_network(network) for network in networks]
        except ValueError as error:
            raise exceptions.InputError(f"[monitoring] allowed_networks: {error}") from error

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return self._application(environ, start)
        if path == "/healthcheck":
            return self._answer(environ, start, *self._checked(environ))
        if path == "/metrics" and self._may_see_more(environ):
            return self._answer(environ, start, "200 OK", self._metrics.text(),
                                CONTENT_TYPE_PLAIN_0_0_4)
        return self._application(environ, start)

    def _checked(self, environ: dict[str, Any]) -> tuple[str, bytes, str]:
        checks = self._health.checks()
        healthy = all(check.healthy for check in checks)
        status = "200 OK" if healthy else "503 Service Unavailable"
        told: dict[str, Any] = {"status": "ok" if healthy else "failing"}
        if self._may_see_more(environ):
            told["checks"] = [asdict(check) for check in checks]
        return status, json.dumps(told).encode(), "application/json"

    def _may_see_more(self, environ: dict[str, Any]) -> bool:
        if any(name in environ for name in _FORWARDED):
            return False
        try:
            address = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    @staticmethod
    def _answer(environ: dict[str, Any], start: Callable[..., Any], status: str, body: bytes,
                content_type: str) -> list[bytes]:
        start(status, [("Content-Type", content_type), ("Content-Length", str(len(body))),
                       ("Cache-Control", "no-store")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
