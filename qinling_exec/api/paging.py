# SPDX-License-Identifier: Apache-2.0
"""Reads limit, marker, sort and project of a list from a query, and links to its next page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import pecan

from qinling_exec import exceptions, policy
from qinling_exec.api import filters as filter_syntax
from qinling_exec.api.exposure import caller
from qinling_exec.db.listing import OLDEST_FIRST, Filter, Page
from qinling_exec.db.scope import Query, Slice
from qinling_exec.service import Service

T = TypeVar("T")


def page(service: Service, limit: str | None, marker: str | None, sort: str | None,
         columns: Collection[str] = ("created_at", "id"),
         default: Sequence[tuple[str, str]] = OLDEST_FIRST) -> Page:
    """Return the part of a list that a query asks for.

    :param columns: what the list can be sorted by.
    :raises qinling_exec.exceptions.InputError: limit or sort is not valid.
    """
    return Page(_limit(service, limit), marker or None, _sort(sort, columns) or default)


def query(service: Service, rule: str, wanted: Page, filters: list[Filter],
          all_projects: str | None, project_id: str | None) -> Query:
    """Return a list's query; other projects' objects are for whom policy lets see them.

    :param rule: the policy rule of the list; ``rule:all_projects`` guards other projects.
    :raises qinling_exec.exceptions.NotAllowed: the caller may not see all projects.
    """
    context = caller()
    policy.check(service.enforcer, context, rule)
    every = flag("all_projects", all_projects)
    if project_id and context.sees_all:
        every = True
        filters = [*filters, *filter_syntax.parse({"project_id": str},
                                                  {"project_id": project_id})]
    if every:
        policy.check(service.enforcer, context, f"{rule}:all_projects")
    return Query(wanted, filters, all_projects=every)


def shown(name: str, part: Slice[T], show: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Return one page as replies show it, with a link to the next one when there is one."""
    result: dict[str, Any] = {name: [show(item) for item in part.items]}
    if part.marker is not None:
        request = pecan.request
        parameters = [(key, value) for key, value in request.GET.items() if key != "marker"]
        parameters.append(("marker", part.marker))
        result["next"] = f"{request.path_url}?{urlencode(parameters)}"
    return result


def _limit(service: Service, text: str | None) -> int:
    if text is None:
        return int(service.conf.api.default_page)
    most = service.conf.api.max_page
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= most:
        raise exceptions.InputError(
            f"Invalid input for field/attribute limit. Value: '{text[:100]}'."
            f" A whole number from 1 to {most} is required."
        )
    return int(text)


def _sort(text: str | None, columns: Collection[str]) -> list[tuple[str, str]]:
    keys: list[tuple[str, str]] = []
    for part in (text or "").split(","):
        name, _, way = part.strip().partition(":")
        if not name and not way:
            continue
        way = way or "asc"
        if name not in columns or way not in ("asc", "desc") or name in dict(keys):
            raise exceptions.InputError(
                f"Invalid input for field/attribute sort. Value: '{str(text)[:100]}'. Use keys out"
                f" of {', '.join(sorted(columns))}, each with :asc or :desc, such as"
                " created_at:desc."
            )
        keys.append((name, way))
    return keys


def flag(name: str, text: str | None) -> bool:
    """Return an argument that is true or false. :raises InputError: it is neither."""
    try:
        return filter_syntax.boolean(text or "")
    except ValueError as error:
        raise exceptions.InputError(
            f"Invalid input for field/attribute {name}. Value: '{str(text)[:100]}'. {error}"
        ) from error
