# SPDX-License-Identifier: Apache-2.0
"""/v1/executions."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pecan
from wsme import types as wtypes

from qinling_exec import exceptions, policy
from qinling_exec.api import body as bodies
from qinling_exec.api import filters, handover, paging, ranges
from qinling_exec.api.exposure import answer, caller, expose, expose_plain
from qinling_exec.api.routing import Collection
from qinling_exec.api.types import base
from qinling_exec.api.types import executions as types
from qinling_exec.executions import idempotency, states
from qinling_exec.executions.acceptance import Request
from qinling_exec.service import Service

_KINDS: dict[str, type] = {
    "id": str, "function_id": str, "function_version": int, "function_alias": str,
    "description": str, "status": str, "sync": bool, "created_at": datetime,
    "updated_at": datetime, "started_at": datetime, "finished_at": datetime, "attempts": int,
    "request_id": str,
}
_SORTABLE = {*_KINDS, "project_id"} - {"sync"}
_text = wtypes.text


class LogController(Collection):
    """/v1/executions/{id}/log."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @expose_plain("text/plain", query=("follow",))
    def get(self, execution_id: str) -> Any:
        """Answer what the execution has printed, or what it prints until it has ended.

        Byte ranges can be asked for.
        """
        policy.check(self._service.enforcer, caller(), "execution:get_log")
        follow = paging.flag("follow", pecan.request.GET.get("follow"))
        executions = self._service.executions
        size, ended = executions.log_size(caller(), execution_id)
        response = pecan.response
        response.content_type, response.charset = "text/plain", "UTF-8"
        response.accept_ranges = "bytes"
        given = pecan.request.headers.get("Range")
        if follow and not ended:
            return self._follow(execution_id, ranges.parse_live(given, size))
        wanted = ranges.parse(given, size)
        if wanted is not None:
            response.status = 206
            response.headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[1] - 1}/{size}"
        response.body = executions.log(execution_id, *(wanted or (0, size)))
        return response

    head = get

    def _follow(self, execution_id: str, wanted: tuple[int, int | None] | None) -> Any:
        """Answer what has been printed and what will be."""
        request, response, followers = pecan.request, pecan.response, self._service.followers
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        begin, end = wanted or (0, None)
        if wanted is not None:
            response.status = 206
            last = ranges.OPEN_END if end is None else end - 1
            response.headers["Content-Range"] = f"bytes {begin}-{last}/*"
        response.app_iter = []
        if request.method == "HEAD":
            return response
        follow = self._service.executions.follow(execution_id, begin, end)
        if handover.possible(request.environ):
            followers.check()
            request.environ[handover.KEY] = follow
        else:
            response.app_iter = followers.stream(follow)
        return response


class ExecutionsController(Collection):
    """/v1/executions."""

    _custom_actions = {"cancel": ["POST"]}

    def __init__(self, service: Service) -> None:
        self._service = service
        self.log = LogController(service)

    @expose(body=types.ExecutionCreate, status=201)
    def post(self, body: types.ExecutionCreate) -> dict[str, Any]:
        """Run a function."""
        policy.check(self._service.enforcer, caller(), "execution:create")
        values = {name: value for name, value in body.given().items() if value is not None}
        if not (values.get("function_id") or values.get("function_alias")):
            raise exceptions.InputError(
                "Either function_alias or function_id must be provided."
            )
        values["input"] = self._input(values.get("input"))
        key = idempotency.check(pecan.request.headers.get("Idempotency-Key"))
        request = Request(**values, idempotency_key=key)
        return types.shown(self._service.executions.submit(caller(), request))

    @expose(*[_text] * 18)
    def get_all(self, function_id: Any = None, all_projects: Any = None, project_id: Any = None,
                status: Any = None, description: Any = None, id: Any = None,
                function_version: Any = None, function_alias: Any = None, sync: Any = None,
                created_at: Any = None, updated_at: Any = None, started_at: Any = None,
                finished_at: Any = None, attempts: Any = None, request_id: Any = None,
                limit: Any = None, marker: Any = None, sort: Any = None) -> dict[str, Any]:
        """List executions."""
        given = {
            "id": id, "function_id": function_id, "function_version": function_version,
            "function_alias": function_alias, "description": description, "status": status,
            "sync": sync, "created_at": created_at, "updated_at": updated_at,
            "started_at": started_at, "finished_at": finished_at, "attempts": attempts,
            "request_id": request_id,
        }
        wanted = paging.page(self._service, limit, marker, sort, _SORTABLE)
        query = paging.query(self._service, "execution:get_all", wanted,
                             filters.parse(_KINDS, given, pecan.request.GET), all_projects,
                             project_id)
        part = self._service.lists.page(caller(), query)
        return paging.shown("executions", part, types.shown)

    @expose(base.uuid)
    def get(self, id: str) -> dict[str, Any]:
        """Show an execution."""
        policy.check(self._service.enforcer, caller(), "execution:get")
        return types.shown(self._service.executions.get(caller(), id))

    @expose(base.uuid, status=204)
    def delete(self, id: str) -> None:
        """Delete an execution."""
        policy.check(self._service.enforcer, caller(), "execution:delete")
        self._service.executions.delete(caller(), id)

    @expose(base.uuid)
    def cancel(self, id: str) -> Any:
        """Cancel an execution; 202 when its run has not ended yet."""
        policy.check(self._service.enforcer, caller(), "execution:cancel")
        execution = self._service.executions.cancel(caller(), id)
        return answer(types.shown(execution), 202 if execution.status == states.RUNNING else 200)

    def _input(self, text: str | None) -> str | None:
        """Return the input as it is kept.

        Qinling's own marker for a positional argument is understood, and JSON null is none.
        """
        if text is None:
            return None
        most = self._service.conf.limits.json_depth
        if bodies.depth(text) > most:
            raise exceptions.InputError(
                f"Invalid input for field/attribute input. It is nested deeper than {most} levels."
            )
        try:
            value = json.loads(text)
        except ValueError:
            return text
        if isinstance(value, dict) and "__function_input" in value:
            given = value["__function_input"]
            if not isinstance(given, str):
                raise exceptions.InputError(
                    "Invalid input for field/attribute input. __function_input is a reserved key"
                    " that takes a string."
                )
            return given
        return None if value is None else text
