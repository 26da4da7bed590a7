# SPDX-License-Identifier: Apache-2.0
"""/v1/functions/{id}/versions."""

from __future__ import annotations

from typing import Any

import pecan
from wsme import types as wtypes

from qinling_exec import exceptions, policy
from qinling_exec.api import downloads, filters, paging
from qinling_exec.api.exposure import answer, caller, expose, expose_plain
from qinling_exec.api.routing import Collection
from qinling_exec.api.types import base
from qinling_exec.api.types import functions as types
from qinling_exec.api.workers import Scaler
from qinling_exec.catalogue.versions import BY_NUMBER
from qinling_exec.db.scope import Query
from qinling_exec.service import Service

_text = wtypes.text
_SORTABLE = ("version_number", "created_at", "id")


class VersionsController(Collection):
    """/v1/functions/{id}/versions."""

    _custom_actions = {"scale_up": ["POST"], "scale_down": ["POST"], "detach": ["POST"]}

    def __init__(self, service: Service) -> None:
        self._service = service
        self._scaler = Scaler(service)

    @expose(base.uuid, body=types.VersionCreate, status=201)
    def post(self, function_id: str, body: types.VersionCreate) -> dict[str, Any]:
        """Keep the function's package as a version."""
        self._check("function_version:create")
        given = body.given()
        version = self._service.versions.create(
            caller(), function_id, given.get("description"), bool(given.get("force"))
        )
        return types.shown_version(version)

    @expose(base.uuid, _text, _text, _text)
    def get_all(self, function_id: str, limit: Any = None, marker: Any = None,
                sort: Any = None) -> dict[str, Any]:
        """List a function's versions."""
        self._check("function_version:get_all")
        wanted = paging.page(self._service, limit, marker, sort, _SORTABLE, BY_NUMBER.sort)
        part = self._service.versions.list(caller(), function_id, Query(wanted))
        return paging.shown("function_versions", part, types.shown_version)

    @expose_plain("application/zip", "application/json", query=["download"])
    def get(self, function_id: str, version: str) -> Any:
        """Show a version, or download its package."""
        self._check("function_version:get")
        found = self._service.versions.get(caller(), function_id, _number(version))
        if not downloads.wanted(pecan.request, filters.boolean):
            return answer(types.shown_version(found))
        self._check("function_version:download")
        package = self._service.versions.open_package(found)
        return downloads.answer(package, f"{function_id}_{found.version_number}")

    @expose(base.uuid, _text, status=204)
    def delete(self, function_id: str, version: str) -> None:
        """Delete a version."""
        self._check("function_version:delete")
        self._service.versions.delete(caller(), function_id, _number(version))

    @expose(base.uuid, _text, body=types.Scale, status=202)
    def scale_up(self, function_id: str, version: str, scale: types.Scale) -> None:
        """Add workers."""
        self._check("function_version:scale_up")
        self._scaler.up(function_id, _number(version), scale)

    @expose(base.uuid, _text, body=types.Scale, status=202)
    def scale_down(self, function_id: str, version: str, scale: types.Scale) -> None:
        """Take workers away; one stays."""
        self._check("function_version:scale_down")
        self._scaler.down(function_id, _number(version), scale)

    @expose(base.uuid, _text, status=202)
    def detach(self, function_id: str, version: str) -> None:
        """End the version's workers."""
        self._check("function_version:detach")
        self._scaler.detach(function_id, _number(version))

    def _check(self, rule: str) -> None:
        policy.check(self._service.enforcer, caller(), rule)


def _number(text: str) -> int:
    number = base.whole(text)
    if number is None:
        raise exceptions.InputError(
            f"Invalid input for field/attribute version. Value: '{text[:100]}'. unable to convert"
            " to int. A whole number is required."
        )
    return number
