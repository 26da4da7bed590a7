# SPDX-License-Identifier: Apache-2.0
"""What the controllers route, found by walking through them as Pecan does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pecan import rest

from qinling_exec.api.root import RootController
from qinling_exec.api.routing import Folder

#: (method, path); variable parts of the path are ``{}``.
Route = tuple[str, str]


def routes() -> dict[Route, Any]:
    """Return every route with what answers it."""
    return dict(_plain(RootController(mock.MagicMock()), ""))


def arguments(answerer: Any) -> list[str]:
    """Return the names of the arguments of an operation, those in the path first."""
    return list(inspect.signature(answerer).parameters)


def _plain(folder: Folder, path: str) -> Iterator[tuple[Route, Any]]:
    """Yield the routes of a folder and of what is in it."""
    for name, member in folder.children.items():
        if isinstance(member, rest.RestController):
            yield from _rest(member, f"{path}/{name}")
        elif isinstance(member, Folder):
            # Without the slash at its end, the path leads to the one with it.
            yield ("GET", f"{path}/{name}"), member.children[""]
            yield from _plain(member, f"{path}/{name}")
        else:
            yield ("GET", f"{path}/{name}"), member


def _rest(controller: rest.RestController, path: str) -> Iterator[tuple[Route, Any]]:
    """Yield the routes of a resource and of those below it."""
    one = path
    if hasattr(controller, "get"):
        one += "/{}" * (len(arguments(controller.get)) - path.count("{}"))
    for verb, where in (("get_all", path), ("post", path), ("get", one), ("put", one),
                        ("patch", one), ("delete", one)):
        if hasattr(controller, verb):
            yield (verb.partition("_")[0].upper(), where), getattr(controller, verb)
    for action, verbs in controller._custom_actions.items():
        for verb in verbs:
            yield (verb, f"{one}/{action}"), getattr(controller, action)
    for name, member in vars(controller).items():
        if isinstance(member, rest.RestController):
            yield from _rest(member, f"{one}/{name}")

