# SPDX-License-Identifier: Apache-2.0
"""Audit events (CADF) of requests, by keystonemiddleware's filter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from oslo_config import cfg

from qinling_exec import exceptions

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: The filter would show parts of them.
_SECRETS = ("HTTP_X_AUTH_TOKEN", "HTTP_X_SERVICE_TOKEN", "HTTP_X_STORAGE_TOKEN")
_RAISED = "qinling_exec.audit.raised"


def audited(application: Application, conf: cfg.ConfigOpts) -> Application:
    """Put the filter in front of an application, if it is configured.

    :raises qinling_exec.exceptions.InputError: the map can't be read.
    """
    if not conf.audit.map_file:
        return application
    return _Audit(application, conf)


class _Audit:
    """Stands behind the check of the token, which says who the caller is."""

    def __init__(self, application: Application, conf: cfg.ConfigOpts) -> None:
        # Imported here: without an audit it is not needed.
        from keystonemiddleware import audit

        if not os.access(conf.audit.map_file, os.R_OK):
            raise exceptions.InputError("[audit] map_file names no file that can be read.")
        self._application = application
        self._filter = audit.AuditMiddleware(
            self._answered, oslo_config_config=conf, audit_map_file=conf.audit.map_file,
            service_name="qinling", log_name="qinling_exec.audit",
            ignore_req_list=",".join(conf.audit.ignored_methods))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        for name in _SECRETS:
            environ.pop(name, None)
        answer: Iterable[bytes] = self._filter(environ, start)
        if _RAISED in environ:
            raise environ[_RAISED]
        return answer

    def _answered(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Tell the filter how a request was refused; it takes an error for no answer at all."""
        try:
            return self._application(environ, start)
        except exceptions.ServiceError as error:
            environ[_RAISED] = error
            start(f"{error.code} Refused", [("Content-Length", "0")])
            return []
