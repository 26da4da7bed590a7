# SPDX-License-Identifier: Apache-2.0
"""Lists in a promised order: filters, sort keys and keyset pages, on any table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from qinling_exec.db import markers

#: Qinling's operators; a bare value means ``eq``.
OPERATORS = ("in", "nin", "eq", "neq", "gt", "gte", "lt", "lte", "has")
OLDEST_FIRST = (("created_at", "asc"), ("id", "asc"))


@dataclass(frozen=True)
class Filter:
    """One condition on one column.

    ``value`` is a list for ``in`` and ``nin``. The operators ``within`` and ``outside`` are not a
    client's: their value is a list of spans, each with its beginning and the end behind it.
    """

    column: str
    operator: str
    value: Any


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted.

    :param limit: rows at the most.
    :param marker: id of the last row seen, or the token out of a ``next`` link.
    :param sort: (column, ``asc`` or ``desc``) pairs, most important first.
    """

    limit: int = 100
    marker: str | None = None
    sort: Sequence[tuple[str, str]] = field(default=OLDEST_FIRST)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The sort keys with the id added, which makes the order total."""
        keys = list(self.sort)
        if "id" not in dict(keys):
            keys.append(("id", keys[-1][1] if keys else "asc"))
        return keys

    @property
    def names(self) -> list[str]:
        """The columns of the sort keys."""
        return [name for name, _ in self.keys]


def select(table: sa.Table, scope: Sequence[sa.ColumnElement[bool]],
           filters: Sequence[Filter], page: Page, connection: sa.Connection) -> list[sa.Row[Any]]:
    """Return the rows of a page and one more when there are more.

    :param scope: what the caller may see at all; markers obey it too.
    :raises qinling_exec.exceptions.InputError: the marker is of no row or not of this order.
    """
    place = page.marker and markers.position(table, scope, page.names, page.marker, connection)
    return list(connection.execute(
        query(table, scope, filters, page, place or None, connection.dialect)
    ))


def query(table: sa.Table, scope: Sequence[sa.ColumnElement[bool]], filters: Sequence[Filter],
          page: Page, place: Sequence[Any] | None, dialect: sa.Dialect) -> sa.Select[Any]:
    """Return the query of a page, in whatever way the database finds to answer it.

    :param place: the values of the sort keys behind which the page begins.
    """
    chosen = sa.select(table).where(*scope, *(condition(table, f) for f in filters))
    if place is not None:
        chosen = chosen.where(_after(table, page, place, dialect))
    return chosen.order_by(*order(table, page)).limit(page.limit + 1)


def order(table: sa.Table, page: Page) -> list[sa.ColumnElement[Any]]:
    """Return the order of a list as SQL."""
    keys = [(_sortable(table, name), way) for name, way in page.keys]
    return [column.desc() if way == "desc" else column.asc() for column, way in keys]


def token(row: sa.RowMapping, page: Page) -> str:
    """Return the marker that stands for a row's place, also after the row is gone."""
    return markers.token(row, page.names)


def condition(table: sa.Table, wanted: Filter) -> sa.ColumnElement[bool]:
    """Return a filter as SQL."""
    column, value = table.c[wanted.column], wanted.value
    if wanted.operator == "has":
        return _Holds(column, sa.literal(value))
    if wanted.operator in ("within", "outside"):
        spans = [sa.and_(column >= begin, column < end) for begin, end in value]
        return sa.or_(*spans) if wanted.operator == "within" else sa.not_(sa.or_(*spans))
    operators = {
        "eq": column.__eq__, "neq": column.__ne__, "gt": column.__gt__, "gte": column.__ge__,
        "lt": column.__lt__, "lte": column.__le__, "in": column.in_, "nin": column.not_in,
    }
    result: sa.ColumnElement[bool] = operators[wanted.operator](value)
    return result


class _Holds(FunctionElement[bool]):
    """Whether a text holds another: LIKE would ignore case on SQLite, and % and _ mean more."""

    inherit_cache = True
    type = sa.Boolean()


@compiles(_Holds)
def _compile_holds(element: _Holds, compiler: Any, **options: Any) -> str:
    function = "strpos" if compiler.dialect.name == "postgresql" else "instr"
    return f"{function}({compiler.process(element.clauses, **options)}) > 0"


def _after(table: sa.Table, page: Page, place: Sequence[Any],
           dialect: sa.Dialect) -> sa.ColumnElement[bool]:
    """Return the condition for rows behind a place."""
    columns = [_sortable(table, name) for name in page.names]
    values = [_literal(table.c[name], value)
              for name, value in zip(page.names, place, strict=True)]
    ways = {way for _, way in page.keys}
    if len(ways) > 1:
        return _step_by_step(columns, values, [way for _, way in page.keys])
    left, right = sa.tuple_(*columns), sa.tuple_(*values)
    behind = left < right if ways == {"desc"} else left > right
    if dialect.name in ("mysql", "mariadb"):
        # It finds no range in a comparison of tuples, but in one of their first columns.
        first = columns[0] <= values[0] if ways == {"desc"} else columns[0] >= values[0]
        return sa.and_(first, behind)
    return behind


def _step_by_step(columns: Sequence[sa.ColumnElement[Any]],
                  values: Sequence[sa.ColumnElement[Any]],
                  ways: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition when some keys rise and others fall."""
    steps = []
    for index, way in enumerate(ways):
        column, value = columns[index], values[index]
        beyond = column < value if way == "desc" else column > value
        steps.append(sa.and_(*(columns[i] == values[i] for i in range(index)), beyond))
    return sa.or_(*steps)


def _sortable(table: sa.Table, name: str) -> sa.ColumnElement[Any]:
    """Return a column in which NULL has a place: before everything else."""
    column = table.c[name]
    if not column.nullable:
        return column
    return sa.func.coalesce(column, _literal(column, None))


def _literal(column: sa.Column[Any], value: Any) -> sa.ColumnElement[Any]:
    """Return a value of a column, or the one that stands for NULL."""
    literal = sa.literal(_least(column) if value is None else value, column.type)
    return _Time(literal) if isinstance(column.type, sa.DateTime) else literal


class _Time(FunctionElement[datetime]):
    """A time that MariaDB takes for one: else it compares the letters of both."""

    inherit_cache = True
    type = sa.DateTime()


@compiles(_Time)
def _compile_time(element: _Time, compiler: Any, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    return f"CAST({text} AS DATETIME(6))" if compiler.dialect.name in ("mysql", "mariadb") else (
        text)


def _least(column: sa.ColumnElement[Any]) -> Any:
    if isinstance(column.type, sa.DateTime):
        return datetime(1, 1, 1)
    return "" if isinstance(column.type, sa.String) else -1
