# SPDX-License-Identifier: Apache-2.0
"""Executions in requests and replies."""

from __future__ import annotations

from typing import Any

from qinling_exec.api.types import base
from qinling_exec.executions.records import Execution


class ExecutionCreate(base.Owned):
    """What POST /v1/executions takes."""

    id = base.new_uuid
    function_id = base.uuid
    function_alias = base.Text(None)
    function_version = base.version_number
    input = base.any_text
    description = base.text
    sync = base.flag
    status = base.readonly()
    result = base.readonly()
    started_at = base.readonly()
    finished_at = base.readonly()
    attempts = base.readonly()
    request_id = base.readonly()


def shown(execution: Execution) -> dict[str, Any]:
    """Return an execution as replies show it."""
    return {
        "id": execution.id, "function_id": execution.function_id,
        "function_version": execution.function_version,
        "function_alias": execution.function_alias, "description": execution.description,
        "status": execution.status, "sync": execution.sync, "input": execution.input,
        "result": execution.result, "project_id": execution.project_id,
        "created_at": base.shown_time(execution.created_at),
        "updated_at": base.shown_time(execution.updated_at),
        "started_at": base.shown_time(execution.started_at, exact=True),
        "finished_at": base.shown_time(execution.finished_at, exact=True),
        "attempts": execution.attempts, "request_id": execution.request_id,
    }
