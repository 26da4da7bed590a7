# SPDX-License-Identifier: Apache-2.0
"""Requests to the cluster's API, in the words of its rights."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}


@dataclass(frozen=True)
class Call:
    """A request.

    :param resource: with its part: ``pods/resize``.
    """

    verb: str
    group: str
    resource: str
    name: str
    at: float = field(default_factory=time.monotonic, compare=False)

    @classmethod
    def of(cls, method: str, target: str) -> Call:
        """Return what a request asks for."""
        url = urlsplit(target)
        parts = url.path.strip("/").split("/")
        group = parts[1] if parts[0] == "apis" else ""
        begin = parts.index("namespaces") + 2 if "namespaces" in parts else 3 if group else 2
        resource, name, part = (*parts[begin:], "", "")[:3]
        verb = _VERBS.get(method, "get" if name else "list")
        if "watch" in parse_qs(url.query):
            verb = "watch"
        return cls(verb, group, f"{resource}/{part}" if part else resource, name)
