# SPDX-License-Identifier: Apache-2.0
"""The WSGI application: what a request passes on its way, outermost last."""

from __future__ import annotations

from typing import Any

import pecan
import webob
from oslo_config import cfg
from oslo_middleware import cors, http_proxy_to_wsgi

from qinling_exec.api import argspecs
from qinling_exec.api.access import Access
from qinling_exec.api.audit import audited
from qinling_exec.api.body import BodyGuard
from qinling_exec.api.faults import Faults
from qinling_exec.api.forms import FIELDS_SIZE, Forms
from qinling_exec.api.handover import HandOver
from qinling_exec.api.identity import authenticated
from qinling_exec.api.middleware import Options, RequestId
from qinling_exec.api.monitoring import Monitoring
from qinling_exec.api.root import RootController
from qinling_exec.conf import consistency
from qinling_exec.health import Health
from qinling_exec.metrics import Metrics
from qinling_exec.service import Service


def build(service: Service) -> Any:
    """Return the application of a service.

    :raises qinling_exec.exceptions.InputError: it can't work as it is configured.
    """
    consistency.report(service.conf)
    argspecs.install()
    limits = service.conf.limits
    # Types come from the Accept header alone: a name may end in .json.
    application: Any = _Pecan(RootController(service), guess_content_type_from_ext=False,
                              force_canonical=False, request_cls=_Request)
    application = Forms(application, service.store, package_limit=limits.package_size)
    application = BodyGuard(application, limit=limits.json_body, depth=limits.json_depth)
    application = audited(application, service.conf)
    application = authenticated(application, service.conf, service.enforcer)
    application = Faults(Options(application),
                         body_limit=max(limits.json_body, limits.package_size + FIELDS_SIZE))
    application = _configured(application, service.conf)
    application = Access(application, service.conf.monitoring.access_log)
    application = Monitoring(application, Health(
        service.database, service.runner, service.orchestrated),
                             Metrics(service.database, service.conf.engine.lease_seconds),
                             service.conf.monitoring.allowed_networks)
    return HandOver(RequestId(application), service.followers)


class _Request(webob.Request):
    """A request as Pecan reads it, without what Pecan's own class does at every attribute.

    That turns what is no UTF-8 into a 400; the body guard has refused it by then.
    """

    @property
    def json(self) -> dict[str, Any]:
        """The body, which the body guard has parsed."""
        body: dict[str, Any] = self.environ.get("qinling_exec.json", {})
        return body


def _configured(application: Any, conf: cfg.ConfigOpts) -> Any:
    """Put what oslo.middleware has around an application, where an operator wants it."""
    if conf.cors.allowed_origin:
        application = cors.CORS(application, conf)
    if conf.oslo_middleware.enable_proxy_headers_parsing:
        application = http_proxy_to_wsgi.HTTPProxyToWSGI(application, conf)
    return application


class _Pecan(pecan.Pecan):
    """Pecan, but for two habits."""

    def get_args(self, state: Any, all_params: dict[str, Any], *rest: Any) -> Any:
        """Take the arguments of a method from the path alone: WSME reads query and body."""
        return super().get_args(state, {}, *rest)

    def _handle_empty_response_body(self, state: Any) -> None:
        """Leave the status alone: an empty log is a log, and no 204."""
