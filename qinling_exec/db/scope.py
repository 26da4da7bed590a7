# SPDX-License-Identifier: Apache-2.0
"""Whose rows a caller sees: by id, and in lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from qinling_exec.context import RequestContext
from qinling_exec.db import listing

T = TypeVar("T")


@dataclass(frozen=True)
class Query:
    """A list that a caller asks for.

    :param all_projects: rows of all projects.
    """

    page: listing.Page = field(default_factory=listing.Page)
    filters: Sequence[listing.Filter] = ()
    all_projects: bool = False


@dataclass(frozen=True)
class Slice(Generic[T]):
    """One page of a list; ``marker`` leads to the next one, None on the last."""

    items: list[T]
    marker: str | None = None


def visible(table: sa.Table, context: RequestContext) -> list[sa.ColumnElement[bool]]:
    """Return the condition for objects that a caller may reach by id."""
    return [] if context.sees_all else [table.c.project_id == context.project]


def own(table: sa.Table, context: RequestContext) -> sa.ColumnElement[bool]:
    """Return the condition for objects of the caller's own project."""
    return table.c.project_id == context.project


def listed(table: sa.Table, context: RequestContext,
           query: Query) -> list[sa.ColumnElement[bool]]:
    """Return the condition for objects that a list shows."""
    if query.all_projects:  # policy has let the caller ask for it
        return []
    return [own(table, context)]


def filters(context: RequestContext, query: Query) -> list[listing.Filter]:
    """Return the same as a filter."""
    if query.all_projects:
        return []
    return [listing.Filter("project_id", "eq", context.project)]


def fetch(connection: sa.Connection, table: sa.Table, query: Query,
          scope: Sequence[sa.ColumnElement[bool]], build: Callable[[sa.Row[Any]], T]) -> Slice[T]:
    """Return one page of rows as domain objects."""
    rows = listing.select(table, scope, query.filters, query.page, connection)
    more = len(rows) > query.page.limit
    rows = rows[: query.page.limit]
    marker = listing.token(rows[-1]._mapping, query.page) if more else None
    return Slice([build(row) for row in rows], marker)
