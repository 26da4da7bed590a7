# SPDX-License-Identifier: Apache-2.0
"""What the controllers route, found by walking through them as Pecan does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pecan import rest

from qinling_exec.api.root import RootController

#: (method, path); variable parts of the path are ``{}``.
Route = tuple[str, str]


def routes() -> dict[Route, Any]:
    """Return every route with what answers it."""
    return dict(_plain(RootController(mock.MagicMock()), ""))


def arguments(answerer: Any) -> list[str]:
    """Return the names of the arguments of an operation, those in the path first."""
    return list(inspect.signature(answerer).parameters)


def _plain(controller: Any, path: str) -> Iterator[tuple[Route, Any]]:
    """Yield the routes below a controller that has pages and no verbs."""
    for name, member in inspect.getmembers(controller):
        if getattr(member, "exposed", False):
            yield ("GET", f"{path}/{'' if name == 'index' else _segment(member, name)}"), member
        elif isinstance(member, rest.RestController):
            yield from _rest(member, f"{path}/{name}")
        elif type(member).__name__.endswith("Controller"):
            # Without the slash at its end, the path leads to the one with it.
            yield ("GET", f"{path}/{name}"), member.index
            yield from _plain(member, f"{path}/{name}")


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


def _segment(member: Any, name: str) -> str:
    return getattr(member, "custom_route", None) or name
