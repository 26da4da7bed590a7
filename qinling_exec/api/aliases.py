# SPDX-License-Identifier: Apache-2.0
"""/v1/aliases."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pecan
from wsme import types as wtypes

from qinling_exec import exceptions, policy
from qinling_exec.api import paging
from qinling_exec.api.exposure import caller, expose
from qinling_exec.api.routing import Collection
from qinling_exec.api.types import base
from qinling_exec.api.types import functions as types
from qinling_exec.service import Service

_text = wtypes.text


def _as_sent(environ: dict[str, Any]) -> list[str]:
    """Return the parts of the path below /aliases/ as they were sent.

    Most servers hand over ``%2F`` as the slash that a name may have, cheroot leaves it as it is;
    but all of them, gunicorn by a name of its own, also tell what was sent.
    """
    sent = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    _, found, name = str(sent).partition("?")[0].partition("/aliases/")
    return [unquote(part) for part in name.split("/")] if found else []


class AliasesController(Collection):
    """/v1/aliases."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @pecan.expose()
    def _route(self, args: list[str], request: Any = None) -> Any:
        """Take all parts of the path as one name: it may have slashes, also at its ends."""
        parts = _as_sent(pecan.request.environ) or args
        behind = [""] if parts[-1:] == [""] else []
        name = "/".join(parts[:len(parts) - len(behind)])
        return super()._route([name, *behind] if name else args, request)

    @expose(body=types.AliasBody, status=201)
    def post(self, body: types.AliasBody) -> dict[str, Any]:
        """Create an alias."""
        self._check("function_alias:create")
        values = {name: value for name, value in body.given().items() if value is not None}
        if not values.get("name") or not values.get("function_id"):
            raise exceptions.InputError(
                "Required param is missing. Required: {'name', 'function_id'}"
            )
        values.setdefault("function_version", 0)
        base.require_integer("function_version", values["function_version"])
        return types.shown_alias(self._service.aliases.create(caller(), values))

    @expose(base.path_text)
    def get(self, alias_name: str) -> dict[str, Any]:
        """Show an alias."""
        self._check("function_alias:get")
        return types.shown_alias(self._service.aliases.get(caller(), alias_name))

    @expose(*[_text] * 5)
    def get_all(self, all_projects: Any = None, project_id: Any = None, limit: Any = None,
                marker: Any = None, sort: Any = None) -> dict[str, Any]:
        """List aliases."""
        wanted = paging.page(self._service, limit, marker, sort, ("created_at", "id", "name"))
        query = paging.query(self._service, "function_alias:get_all", wanted, [], all_projects,
                             project_id)
        part = self._service.aliases.list(caller(), query)
        return paging.shown("function_aliases", part, types.shown_alias)

    @expose(base.path_text, body=types.AliasBody)
    def put(self, alias_name: str, body: types.AliasBody) -> dict[str, Any]:
        """Point an alias elsewhere, or describe it anew."""
        self._check("function_alias:update")
        values = {name: value for name, value in body.given().items() if value is not None}
        if values.pop("name", alias_name) != alias_name:
            raise exceptions.InputError(
                "Invalid input for field/attribute name. An alias keeps its name."
            )
        if "function_version" in values:
            base.require_integer("function_version", values["function_version"])
        return types.shown_alias(self._service.aliases.update(caller(), alias_name, values))

    @expose(base.path_text, status=204)
    def delete(self, alias_name: str) -> None:
        """Delete an alias."""
        self._check("function_alias:delete")
        self._service.aliases.delete(caller(), alias_name)

    def _check(self, rule: str) -> None:
        policy.check(self._service.enforcer, caller(), rule)
