# SPDX-License-Identifier: Apache-2.0
"""/v1/functions/{id}/workers, and what scales them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from wsme import types as wtypes

from qinling_exec import exceptions, policy
from qinling_exec.api.exposure import caller, expose
from qinling_exec.api.routing import Collection
from qinling_exec.api.types import base
from qinling_exec.api.types import functions as types
from qinling_exec.catalogue import functions, versions
from qinling_exec.executions import targets
from qinling_exec.service import Service


class WorkersController(Collection):
    """/v1/functions/{id}/workers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @expose(base.uuid, wtypes.text)
    def get_all(self, function_id: str, function_version: Any = None) -> dict[str, Any]:
        """List the workers of a version of a function; 0 is its latest package."""
        policy.check(self._service.enforcer, caller(), "function_worker:get_all")
        number = base.whole("0" if function_version is None else function_version)
        if number is None or number < 0:
            raise exceptions.InputError(
                "Invalid input for field/attribute function_version. Value:"
                f" '{str(function_version)[:100]}'. unable to convert to int. A whole number is"
                " required."
            )
        if not caller().sees_all:  # the table of workers knows no projects
            self._service.functions.get(caller(), function_id)
        names = self._service.workers.names(function_id, number, self._service.conf.api.max_page)
        return {"workers": [
            {"function_id": function_id, "function_version": number, "worker_name": name}
            for name in names
        ]}


class Scaler:
    """Scales the workers of a version for the controllers of functions and versions."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def up(self, function_id: str, version: int, scale: types.Scale) -> None:
        """Want more workers.

        :raises qinling_exec.exceptions.InputError: a version may not have that many.
        """
        count = _count(scale)
        workers, most = self._service.workers, self._service.conf.engine.max_workers_per_function
        with self._service.database.writer() as connection:
            _check_target(connection, function_id, version)
            target = targets.resolve(connection, caller(), function_id, version)
            if target.package is None:
                raise exceptions.InputError("Functions made of an image have no workers.")
            there = len(workers.names(function_id, version, most + 1))
            if there + count > most:
                raise exceptions.InputError(
                    f"Invalid input for field/attribute count. Value: '{count}'. The function has"
                    f" {there} of the {most} workers that it may have."
                )
            workers.want(connection, function_id, version, target.fingerprint, count)
        workers.wakeup.ring()

    def down(self, function_id: str, version: int, scale: types.Scale) -> None:
        """Let workers go; one stays. What has no workers is left as it is."""
        with self._service.database.writer() as connection:
            _check_target(connection, function_id, version)
            self._service.workers.scale_down(connection, function_id, version, _count(scale))
        self._service.workers.wakeup.ring()

    def detach(self, function_id: str, version: int) -> None:
        """Let all workers of a version go, whatever the state of its runtime."""
        with self._service.database.writer() as connection:
            _check_target(connection, function_id, version)
            self._service.workers.detach(connection, function_id, version)
        self._service.workers.wakeup.ring()


def _check_target(connection: sa.Connection, function_id: str, version: int) -> None:
    """Find what is to be scaled. :raises qinling_exec.exceptions.NotFound: it is not there."""
    functions.find(connection, caller(), function_id)
    if version != 0:
        versions.find(connection, caller(), function_id, version)


def _count(scale: types.Scale) -> int:
    count = scale.given().get("count")
    if count is None:
        raise exceptions.InputError("Required param is missing. Required: {'count'}")
    return int(count)
