# SPDX-License-Identifier: Apache-2.0
"""/v1/functions."""

from __future__ import annotations

from typing import Any

import pecan
from wsme import types as wtypes

from qinling_exec import exceptions, policy
from qinling_exec.api import downloads, filters, paging
from qinling_exec.api.exposure import answer, caller, expose, expose_plain
from qinling_exec.api.forms import Form
from qinling_exec.api.function_fields import FunctionFields
from qinling_exec.api.routing import Collection
from qinling_exec.api.types import base
from qinling_exec.api.types import functions as types
from qinling_exec.api.versions import VersionsController
from qinling_exec.api.workers import Scaler, WorkersController
from qinling_exec.service import Service

_text = wtypes.text


class FunctionsController(Collection):
    """/v1/functions."""

    _custom_actions = {"scale_up": ["POST"], "scale_down": ["POST"], "detach": ["POST"]}

    def __init__(self, service: Service) -> None:
        self._service = service
        self._scaler = Scaler(service)
        self._fields = FunctionFields(service.conf)
        self.versions = VersionsController(service)
        self.workers = WorkersController(service)

    @expose_plain(form=True)
    def post(self) -> Any:
        """Create a function, from a form with its package or from JSON."""
        self._check("function:create")
        form = _form()
        values = self._fields.of_new(form.fields, form.package is not None)
        function = self._service.functions.create(caller(), values, form.package)
        return answer(types.shown(function), 201)

    @expose_plain("application/zip", "application/json", query=["download"])
    def get(self, id: str) -> Any:
        """Show a function, or download its package."""
        self._check("function:get")
        function = self._service.functions.get(caller(), id)
        if not downloads.wanted(pecan.request, filters.boolean):
            return answer(types.shown(function))
        self._check("function:download")
        return downloads.answer(self._service.functions.open_package(function), id)

    @expose(*[_text] * 5)
    def get_all(self, all_projects: Any = None, project_id: Any = None, limit: Any = None,
                marker: Any = None, sort: Any = None) -> dict[str, Any]:
        """List functions."""
        wanted = paging.page(self._service, limit, marker, sort)
        query = paging.query(self._service, "function:get_all", wanted, [], all_projects,
                             project_id)
        part = self._service.functions.list(caller(), query)
        return paging.shown("functions", part, lambda item: types.shown(item, listed=True))

    @expose_plain(form=True)
    def put(self, id: str | None = None) -> Any:
        """Change a function or its package."""
        if id is None:
            raise exceptions.InputError('Missing argument: "id"')
        self._check("function:update")
        form = _form()
        values = self._fields.of_change(form.fields)
        function = self._service.functions.update(caller(), id, values, form.package)
        return answer(types.shown(function))

    @expose(base.uuid, status=204)
    def delete(self, id: str) -> None:
        """Delete a function with its versions."""
        self._check("function:delete")
        self._service.functions.delete(caller(), id)

    @expose(base.uuid, body=types.Scale, status=202)
    def scale_up(self, id: str, scale: types.Scale) -> None:
        """Add workers."""
        self._check("function:scale_up")
        self._scaler.up(id, 0, scale)

    @expose(base.uuid, body=types.Scale, status=202)
    def scale_down(self, id: str, scale: types.Scale) -> None:
        """Take workers away; one stays."""
        self._check("function:scale_down")
        self._scaler.down(id, 0, scale)

    @expose(base.uuid, status=202)
    def detach(self, id: str) -> None:
        """End the function's workers."""
        self._check("function:detach")
        self._scaler.detach(id, 0)

    def _check(self, rule: str) -> None:
        policy.check(self._service.enforcer, caller(), rule)


def _form() -> Form:
    """Return the form that came with the request; an empty one when there was none."""
    form: Form | None = pecan.request.environ.get("qinling_exec.form")
    return form if form is not None else Form({}, None)
