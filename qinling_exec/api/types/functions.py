# SPDX-License-Identifier: Apache-2.0
"""Functions, their versions and aliases in requests and replies."""

from __future__ import annotations

import json
from typing import Any

from qinling_exec.api.types import base
from qinling_exec.catalogue.aliases import Alias
from qinling_exec.catalogue.functions import Function
from qinling_exec.catalogue.versions import Version


class Scale(base.Body):
    """By how many workers to scale."""

    count = base.Whole(1)


class VersionCreate(base.Owned):
    """What POST of a version takes; ``force`` keeps an unchanged package too."""

    description = base.text
    force = base.flag
    id = base.fixed_uuid
    function_id = base.readonly()
    version_number = base.readonly()
    count = base.readonly()


class AliasBody(base.Owned):
    """What POST and PUT of an alias take."""

    name = base.text
    description = base.text
    function_id = base.uuid
    function_version = base.version_number
    id = base.fixed_uuid


def shown(function: Function, listed: bool = False) -> dict[str, Any]:
    """Return a function as replies show it.

    :param listed: in a list, where Qinling shows ``code`` as JSON text.
    """
    return {
        "id": function.id, "name": function.name, "description": function.description,
        "cpu": function.cpu, "memory_size": function.memory_size, "timeout": function.timeout,
        "max_attempts": function.max_attempts, "retry_on_failure": function.retry_on_failure,
        "runtime_id": function.runtime_id,
        "code": json.dumps(function.code) if listed else function.code,
        "entry": function.entry, "count": function.count,
        "latest_version": function.latest_version, "project_id": function.project_id,
        "created_at": base.shown_time(function.created_at),
        "updated_at": base.shown_time(function.updated_at),
    }


def shown_version(version: Version) -> dict[str, Any]:
    """Return a version as replies show it."""
    return {
        "id": version.id, "description": version.description,
        "function_id": version.function_id, "version_number": version.version_number,
        "count": version.count, "project_id": version.project_id,
        "created_at": base.shown_time(version.created_at),
        "updated_at": base.shown_time(version.updated_at),
    }


def shown_alias(alias: Alias) -> dict[str, Any]:
    """Return an alias as replies show it."""
    return {
        "id": alias.id, "name": alias.name, "description": alias.description,
        "function_id": alias.function_id, "function_version": alias.function_version,
        "project_id": alias.project_id, "created_at": base.shown_time(alias.created_at),
        "updated_at": base.shown_time(alias.updated_at),
    }
