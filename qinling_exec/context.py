# SPDX-License-Identifier: Apache-2.0
"""Who asks: identity, project and request id of the work at hand."""

from __future__ import annotations

from typing import Any

from oslo_context import context as oslo_context


class RequestContext(oslo_context.RequestContext):
    """oslo.context's request context, which oslo.log and oslo.policy understand.

    Creating one makes it the current context of the thread, so that every log line
    carries its request id.
    """

    @property
    def project(self) -> str:
        """The caller's project; never empty."""
        return self.project_id or "default"

    @property
    def sees_all(self) -> bool:
        """True when the caller may reach objects of other projects by their id."""
        return bool(self.is_admin)

    @classmethod
    def from_environ(cls, environ: dict[str, Any], **kwargs: Any) -> RequestContext:
        """Build it from the headers that the authentication middleware left."""
        context: RequestContext = super().from_environ(environ, **kwargs)
        context.is_admin = False  # until policy says so
        return context


def of_execution(request_id: str | None, global_request_id: str | None,
                 project_id: str) -> RequestContext:
    """Make the context current under which an engine thread works for an execution."""
    return RequestContext(request_id=request_id, global_request_id=global_request_id,
                          project_id=project_id)
