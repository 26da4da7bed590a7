# SPDX-License-Identifier: Apache-2.0
"""``application``: the REST API for any WSGI server."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from oslo_config import cfg
from oslo_log import log

from qinling_exec import conf as configuration
from qinling_exec import exceptions, reports, tracing
from qinling_exec.api import app
from qinling_exec.service import Service

LOG = logging.getLogger(__name__)
#: Config files to read, with ``;`` between them.
VARIABLE = "QINLING_EXEC_CONFIG_FILES"
_DEFAULT_FILE = "/etc/qinling_exec/qinling_exec.conf"


def load() -> cfg.ConfigOpts:
    """Return the configuration that the environment names, and set up logging by it.

    :raises oslo_config.cfg.ConfigFilesNotFoundError: a file is not there.
    """
    files = [name for name in os.environ.get(VARIABLE, _DEFAULT_FILE).split(";") if name]
    conf = configuration.load(files=files, prog="qinling-exec-api")
    log.setup(conf, "qinling_exec")
    return conf


class Application:
    """The API of one process, made when that process first needs it.

    Servers may import this module before they fork. A process that runs executions is a runner
    with a lease, threads and database connections of its own; none of that survives a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built = self._process = 0
        self._service: Service | None = None
        self._application: Any = None

    def __call__(self, environ: dict[str, Any],
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if self._process != os.getpid():
            self.start()
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer

    def start(self) -> None:
        """Become a runner, unless this process is one; when it ends it signs off.

        While the database is down that is not possible: what needs it is answered 503, and every
        request tries again.
        """
        with self._lock:
            if self._process == os.getpid():
                return
            if self._service is None or self._built != os.getpid():
                conf = load()
                reports.install(conf)
                tracing.install(conf, "api")
                self._service = Service(conf)
                self._application = app.build(self._service)
                self._built = os.getpid()
            try:
                self._service.start()
            except exceptions.Unavailable as error:
                LOG.warning("The API can't begin yet: %s", error)
                return
            self._process = os.getpid()
            atexit.register(self.stop)

    def release_waiters(self) -> None:
        """Answer those who wait for executions in the queue, as this process is to end.

        What runs in this process comes to its end; what others run goes on there.
        """
        service = self._service
        if service is not None:
            service.executions.release_waiters()

    def stop(self) -> None:
        """Sign off."""
        with self._lock:
            if self._process == os.getpid() and self._service is not None:
                service, self._service = self._service, None
                service.stop()
                tracing.uninstall()


application = Application()
# A lock that is held while another thread forks would stay held in the child.
os.register_at_fork(after_in_child=lambda: setattr(application, "_lock", threading.Lock()))
