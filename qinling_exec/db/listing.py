# SPDX-License-Identifier: Apache-2.0
"""Lists in a promised order: filters, sort keys and keyset pages, on any table."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from qinling_exec import exceptions

#: Qinling's operators; a bare value means ``eq``.
OPERATORS = ("in", "nin", "eq", "neq", "gt", "gte", "lt", "lte", "has")
OLDEST_FIRST = (("created_at", "asc"), ("id", "asc"))


@dataclass(frozen=True)
class Filter:
    """One condition on one column; ``value`` is a list for ``in`` and ``nin``."""

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


def select(table: sa.Table, scope: Sequence[sa.ColumnElement[bool]],
           filters: Sequence[Filter], page: Page, connection: sa.Connection) -> list[sa.Row[Any]]:
    """Return the rows of a page and one more when there are more.

    :param scope: what the caller may see at all; markers obey it too.
    :raises qinling_exec.exceptions.InputError: the marker is of no row or not of this order.
    """
    query = sa.select(table).where(*scope, *(condition(table, f) for f in filters))
    if page.marker:
        query = query.where(_after(table, page, _position(table, scope, page, connection)))
    order = [_directed(table, name, way) for name, way in page.keys]
    return list(connection.execute(query.order_by(*order).limit(page.limit + 1)))


def token(row: sa.RowMapping, page: Page) -> str:
    """Return the marker that stands for a row's place, also after the row is gone."""
    values = [_plain(row[name]) for name, _ in page.keys]
    text = json.dumps([[name for name, _ in page.keys], values])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def condition(table: sa.Table, wanted: Filter) -> sa.ColumnElement[bool]:
    """Return a filter as SQL."""
    column, value = table.c[wanted.column], wanted.value
    if wanted.operator == "has":
        return _Holds(column, sa.literal(value))
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


def _position(table: sa.Table, scope: Sequence[sa.ColumnElement[bool]], page: Page,
              connection: sa.Connection) -> list[Any]:
    """Return the values of the sort keys at the marker."""
    marker = page.marker or ""
    if "-" in marker and len(marker) == 36:
        row = connection.execute(sa.select(table).where(table.c.id == marker, *scope)).first()
        if row is None:
            raise exceptions.InputError(
                f"The marker {marker} is not found: its object may be deleted. Follow the 'next'"
                " link."
            )
        return [_plain(row._mapping[name]) for name, _ in page.keys]
    return _decode(marker, page)


def _decode(marker: str, page: Page) -> list[Any]:
    try:
        raw = base64.urlsafe_b64decode(marker.encode() + b"=" * (-len(marker) % 4))
        names, values = json.loads(raw)
    except (ValueError, UnicodeError, binascii.Error, RecursionError, TypeError) as error:
        raise exceptions.InputError("The marker is not valid: follow the 'next' link.") from error
    expected = [name for name, _ in page.keys]
    if names != expected or not isinstance(values, list) or len(values) != len(expected):
        raise exceptions.InputError("The marker belongs to another sort order: start without one.")
    return values


def _after(table: sa.Table, page: Page, position: list[Any]) -> sa.ColumnElement[bool]:
    """Return the condition for rows behind a position."""
    columns = [_sortable(table, name) for name, _ in page.keys]
    values = [_typed(table, name, value) for (name, _), value in zip(page.keys, position,
                                                                     strict=True)]
    ways = {way for _, way in page.keys}
    if len(ways) == 1:
        left, right = sa.tuple_(*columns), sa.tuple_(*values)
        return left < right if ways == {"desc"} else left > right
    steps = []
    for index, (_, way) in enumerate(page.keys):
        column, value = columns[index], values[index]
        beyond = column < value if way == "desc" else column > value
        steps.append(sa.and_(*(columns[i] == values[i] for i in range(index)), beyond))
    return sa.or_(*steps)


def _sortable(table: sa.Table, name: str) -> sa.ColumnElement[Any]:
    """Return a column in which NULL has a place: before everything else."""
    column = table.c[name]
    if not column.nullable:
        return column
    return sa.func.coalesce(column, sa.literal(_least(column), column.type))


def _directed(table: sa.Table, name: str, way: str) -> sa.ColumnElement[Any]:
    column = _sortable(table, name)
    return column.desc() if way == "desc" else column.asc()


def _least(column: sa.ColumnElement[Any]) -> Any:
    if isinstance(column.type, sa.DateTime):
        return datetime(1, 1, 1)
    return "" if isinstance(column.type, sa.String) else -1


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _typed(table: sa.Table, name: str, value: Any) -> sa.ColumnElement[Any]:
    """Turn a value out of a marker back into one of the column's type."""
    column = table.c[name]
    if value is None:
        return sa.literal(_least(column), column.type)
    kind: type = column.type.python_type
    try:
        value = datetime.fromisoformat(value) if kind is datetime else value
        if not isinstance(value, kind):
            raise TypeError
    except (TypeError, ValueError) as error:
        raise exceptions.InputError("The marker is not valid: follow the 'next' link.") from error
    return sa.literal(value, column.type)
