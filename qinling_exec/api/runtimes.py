# SPDX-License-Identifier: Apache-2.0
"""/v1/runtimes."""

from __future__ import annotations

from typing import Any

from wsme import types as wtypes

from qinling_exec import exceptions, policy
from qinling_exec.api import paging
from qinling_exec.api.exposure import caller, expose
from qinling_exec.api.routing import Collection
from qinling_exec.api.types import base
from qinling_exec.api.types import runtimes as types
from qinling_exec.db.scope import Query
from qinling_exec.service import Service

_CHANGEABLE = ("name", "description", "image")
_text = wtypes.text


class RuntimesController(Collection):
    """/v1/runtimes."""

    _custom_actions = {"pool": ["GET"]}

    def __init__(self, service: Service) -> None:
        self._service = service

    @expose(body=types.RuntimeBody, status=201)
    def post(self, runtime: types.RuntimeBody) -> dict[str, Any]:
        """Create a runtime."""
        self._check("runtime:create")
        values = {name: value for name, value in runtime.given().items() if value is not None}
        if "image" not in values:
            raise exceptions.InputError("Required param is missing. Required: {'image'}")
        _check_image(values["image"])
        return types.shown(self._service.runtimes.create(caller(), {
            "is_public": True, "trusted": True, **values,
        }))

    @expose(_text, _text, _text)
    def get_all(self, limit: Any = None, marker: Any = None,
                sort: Any = None) -> dict[str, Any]:
        """List the runtimes that the caller may use."""
        self._check("runtime:get_all")
        query = Query(paging.page(self._service, limit, marker, sort))
        part = self._service.runtimes.list(caller(), query)
        return paging.shown("runtimes", part, types.shown)

    @expose(base.uuid)
    def get(self, id: str) -> dict[str, Any]:
        """Show a runtime."""
        self._check("runtime:get")
        return types.shown(self._service.runtimes.get(caller(), id))

    @expose(base.uuid, body=types.RuntimeBody)
    def put(self, id: str, runtime: types.RuntimeBody) -> dict[str, Any]:
        """Change name, description or image."""
        self._check("runtime:update")
        given = runtime.given()
        ignored = sorted(set(given) - {*_CHANGEABLE, "is_public"})
        if ignored or _differs(runtime):
            name = ignored[0] if ignored else "is_public"
            raise exceptions.InputError(
                f"Invalid input for field/attribute {name}. It can't be changed; only name,"
                " description and image can."
            )
        values = {name: given[name] for name in _CHANGEABLE if given.get(name) is not None}
        if "image" in values:
            _check_image(values["image"])
        return types.shown(self._service.runtimes.update(caller(), id, values))

    @expose(base.uuid, status=204)
    def delete(self, id: str) -> None:
        """Delete a runtime that no function uses."""
        self._check("runtime:delete")
        self._service.runtimes.delete(caller(), id)

    @expose(base.uuid)
    def pool(self, id: str) -> dict[str, Any]:
        """Show how many warm workers the runtime has."""
        self._check("runtime_pool:get_all")
        try:
            runtime = self._service.runtimes.get(caller(), id)
        except exceptions.NotFound as error:
            raise exceptions.NotFound("Runtime not found") from error
        capacity = {"total": runtime.pool_total, "available": runtime.pool_available}
        return {"name": id, "capacity": capacity}

    def _check(self, rule: str) -> None:
        policy.check(self._service.enforcer, caller(), rule)


def _differs(runtime: types.RuntimeBody) -> bool:
    """Tell whether is_public was sent: WSME fills in its default of True."""
    return runtime.given().get("is_public") is False


def _check_image(image: str) -> None:
    if not image.strip():
        raise exceptions.InputError(
            "Invalid input for field/attribute image. Value: ''. The name of an image is required."
        )
