# SPDX-License-Identifier: Apache-2.0
"""/healthcheck and /metrics of an engine, which has no API."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from cheroot import wsgi

from qinling_exec.api.monitoring import Monitoring
from qinling_exec.health import Health
from qinling_exec.metrics import Metrics
from qinling_exec.service import Service

LOG = logging.getLogger(__name__)


class Observation:
    """A small web server beside an engine.

    :param number: of the engine process among those of its program.
    """

    def __init__(self, service: Service, number: int) -> None:
        options = service.conf.monitoring
        self._server: Any = None
        if not options.engine_port:
            return
        health = Health(service.database, service.runner, service.orchestrated)
        application = Monitoring(_nothing, health,
                                 Metrics(service.database, service.conf.engine.lease_seconds),
                                 options.allowed_networks)
        self._server = wsgi.Server((str(options.engine_host), options.engine_port + number),
                                   application, numthreads=2)

    def start(self) -> None:
        """Answer from now on; an engine whose port is taken works all the same."""
        if self._server is None:
            return
        try:
            self._server.prepare()
        except OSError as error:
            LOG.error("The engine can't be observed at %s: %s", self._server.bind_addr, error)
            self._server = None
            return
        threading.Thread(target=self._server.serve, name="observation", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.stop()


def _nothing(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    start("404 Not Found", [("Content-Length", "0")])
    return []
