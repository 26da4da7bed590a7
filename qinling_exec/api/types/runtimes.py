# SPDX-License-Identifier: Apache-2.0
"""Runtimes in requests and replies."""

from __future__ import annotations

from typing import Any

import wsme

from qinling_exec.api.types import base
from qinling_exec.catalogue.runtimes import Runtime


class RuntimeBody(base.Owned):
    """What POST and PUT of a runtime take."""

    id = base.new_uuid
    name = base.text
    image = base.text
    description = base.text
    is_public = wsme.wsattr(base.flag, default=True)
    trusted = base.flag
    status = base.readonly()


def shown(runtime: Runtime) -> dict[str, Any]:
    """Return a runtime as replies show it."""
    return {
        "id": runtime.id, "name": runtime.name, "image": runtime.image,
        "description": runtime.description, "is_public": runtime.is_public,
        "trusted": runtime.trusted, "status": runtime.status,
        "status_reason": runtime.status_reason, "project_id": runtime.project_id,
        "created_at": base.shown_time(runtime.created_at),
        "updated_at": base.shown_time(runtime.updated_at),
    }
