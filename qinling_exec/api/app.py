# SPDX-License-Identifier: Apache-2.0
"""The WSGI application: what a request passes on its way, outermost last."""

from __future__ import annotations

from typing import Any

import pecan

from qinling_exec.api import argspecs
from qinling_exec.api.body import BodyGuard
from qinling_exec.api.faults import Faults
from qinling_exec.api.forms import FIELDS_SIZE, Forms
from qinling_exec.api.identity import authenticated
from qinling_exec.api.middleware import Options, RequestId
from qinling_exec.api.root import RootController
from qinling_exec.service import Service


def build(service: Service) -> Any:
    """Return the application of a service."""
    argspecs.install()
    limits = service.conf.limits
    # Types come from the Accept header alone: a name may end in .json.
    application: Any = _Pecan(RootController(service), guess_content_type_from_ext=False,
                              force_canonical=False)
    application = Forms(application, service.store, package_limit=limits.package_size)
    application = BodyGuard(application, limit=limits.json_body, depth=limits.json_depth)
    application = authenticated(application, service.conf)
    application = Faults(Options(application),
                         body_limit=max(limits.json_body, limits.package_size + FIELDS_SIZE))
    return RequestId(application)


class _Pecan(pecan.Pecan):
    """Pecan, but for one habit."""

    def _handle_empty_response_body(self, state: Any) -> None:
        """Leave the status alone: an empty log is a log, and no 204."""
