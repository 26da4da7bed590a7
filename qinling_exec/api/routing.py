# SPDX-License-Identifier: Apache-2.0
"""Routes paths to what is meant to be reached, and to no other attribute of a controller.

Pecan takes each part of a path as the name of an attribute: ``/v1/__class__`` ended in a 500.
"""

from __future__ import annotations

from typing import Any

import pecan
from pecan import rest
from pecan.routing import lookup_controller
from pecan.util import iscontroller


class Folder:
    """A part of the path with nothing but names below it.

    :param children: name -> controller; the empty name is the folder itself.
    """

    def __init__(self, children: dict[str, Any]) -> None:
        self.children = children

    @pecan.expose()
    def _route(self, args: list[str], request: Any) -> Any:
        """Find what a path names. :raises webob.exc.HTTPNotFound: there is no such thing."""
        name, rest_of_path = (args[0], args[1:]) if args else ("", [])
        child = self.children.get(name)
        if child is None:
            pecan.abort(404)
        return lookup_controller(child, rest_of_path, request)


class Collection(rest.RestController):
    """Objects of one kind: ``/things`` and ``/things/{id}``, with operations and parts of one."""

    def _lookup_child(self, remainder: str) -> Any:
        """Return an operation or a part of that name, None when it is anything else."""
        child = super()._lookup_child(remainder)
        return child if iscontroller(child) or isinstance(child, Collection) else None
