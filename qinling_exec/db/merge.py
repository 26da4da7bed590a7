# SPDX-License-Identifier: Apache-2.0
"""Pages out of indexes: one ordered range for each value of the columns that lead an index,
merged.

An index on (project_id, status, created_at, id) has no order by time over all states, but one in
each; there are five, so five short ranges make a page, and the same index serves the list of one
state. The alternative, an index for each combination of filters, costs every execution more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from qinling_exec.db.listing import Filter, Page, condition

#: Ranges that one page may be merged of.
MOST_RANGES = 60
#: Values that are looked up for a column that no filter names.
MOST_HOPS = 12
_MEANS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b, "neq": lambda a, b: a != b, "in": lambda a, b: a in b,
    "nin": lambda a, b: a not in b, "gt": lambda a, b: a > b, "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b, "lte": lambda a, b: a <= b, "has": lambda a, b: b in a,
}
_LOWER, _UPPER = {"gt", "gte", "eq"}, {"lt", "lte", "eq"}


@dataclass(frozen=True)
class Plan:
    """How a page is read.

    :param columns: the columns that lead the index.
    :param ranges: their values, one tuple for each range.
    :param bounds: filters on the time.
    :param rest: filters that the index does not answer; without any the page is fast.
    """

    columns: tuple[str, ...]
    ranges: list[tuple[Any, ...]]
    bounds: list[Filter]
    rest: list[Filter]


@dataclass(frozen=True)
class Indexes:
    """What the indexes of a table can serve; each goes on with the time and the id.

    :param leading: the columns that lead each index, the most selective first.
    :param domains: all values of a column that has few.
    :param time: the column that lists are sorted by.
    """

    table: sa.Table
    leading: Sequence[tuple[str, ...]]
    domains: Mapping[str, Sequence[Any]]
    time: str = "created_at"

    def plan(self, filters: Sequence[Filter], page: Page,
             connection: sa.Connection) -> Plan | None:
        """Choose an index; None when none has the page's order."""
        if page.names != [self.time, "id"] or len({way for _, way in page.keys}) > 1:
            return None
        if any(f.column == "id" and f.operator in ("eq", "in") for f in filters):
            return None  # the primary key knows these rows
        for columns in self.leading:
            values = self._values(columns, filters, connection)
            if values is None:
                continue
            ranges = list(itertools.islice(itertools.product(*values), MOST_RANGES + 1))
            if len(ranges) <= MOST_RANGES:
                return Plan(columns, ranges, [f for f in filters if self._bounds(f)],
                            [f for f in filters if not self._bounds(f)
                             and not (f.column in columns and self._known(f))])
        return None

    def _bounds(self, wanted: Filter) -> bool:
        return wanted.column == self.time and wanted.operator in _LOWER | _UPPER

    def _known(self, wanted: Filter) -> bool:
        """Whether a filter leaves values of its column that can be named."""
        return wanted.column in self.domains or wanted.operator in ("eq", "in")

    def _values(self, columns: tuple[str, ...], filters: Sequence[Filter],
                connection: sa.Connection) -> list[list[Any]] | None:
        """Return the values of each leading column that the filters leave."""
        values: list[list[Any]] = []
        for column in columns:
            mine = [f for f in filters if f.column == column and self._known(f)]
            domain = self.domains.get(column)
            if domain is None and mine:
                first = mine[0]
                domain = [first.value] if first.operator == "eq" else sorted(set(first.value))
            if domain is None and values:
                domain = self._distinct(columns[:len(values) + 1], values, connection)
            if domain is None:
                return None
            values.append([value for value in domain
                           if all(_MEANS[f.operator](value, f.value) for f in mine)])
        return values

    def _distinct(self, columns: tuple[str, ...], values: list[list[Any]],
                  connection: sa.Connection) -> list[Any] | None:
        """Return the values that a column has beside given ones of the columns before it.

        It hops through the index from one value to the next; None when there are many.
        """
        found: set[Any] = set()
        column = self.table.c[columns[-1]]
        for given in itertools.product(*values):
            equal = [self.table.c[name] == value
                     for name, value in zip(columns, given, strict=False)]
            hop = sa.select(column).where(*equal).order_by(column).limit(1)
            value = connection.execute(hop).scalar()
            while value is not None:
                found.add(value)
                if len(found) > MOST_HOPS:
                    return None
                value = connection.execute(hop.where(column > value)).scalar()
        return sorted(found)

    def query(self, plan: Plan, page: Page, place: Sequence[Any] | None,
              dialect: sa.Dialect) -> sa.Select[Any]:
        """Return the query of a page's rows: their time and id."""
        time, key = self.table.c[self.time], self.table.c.id
        rest = [condition(self.table, f) for f in plan.rest]
        parts = []
        for values in plan.ranges:
            equal = [self.table.c[name] == value
                     for name, value in zip(plan.columns, values, strict=True)]
            for part in self._spans(plan.bounds, page, place, dialect):
                parts.append(sa.select(time, key).where(*equal, *part, *rest))
        order = _order(page, time, key)
        # Planners want to know it.
        limit: sa.ColumnElement[int] = sa.literal_column(str(page.limit + 1), sa.Integer)
        if dialect.name != "sqlite":
            # They sort all that a union gives; SQLite reads as far as the merge needs.
            parts = [sa.select(part.order_by(*order).limit(limit).subquery()) for part in parts]
        found = sa.union_all(*parts) if len(parts) > 1 else parts[0]
        every = found.subquery("every")
        return sa.select(every).order_by(*_order(page, *every.c)).limit(limit)

    def _spans(self, bounds: Sequence[Filter], page: Page, place: Sequence[Any] | None,
               dialect: sa.Dialect) -> list[list[sa.ColumnElement[bool]]]:
        """Return the conditions on time and id: one list, or two that follow each other."""
        falling = page.keys[0][1] == "desc"
        near, far = (_UPPER, _LOWER) if falling else (_LOWER, _UPPER)
        ends = [self._compare(f, far) for f in bounds if f.operator in far]
        begins = [f for f in bounds if f.operator in near]
        if place is None:
            return [[*(self._compare(f, near) for f in begins), *ends]]
        time, key = self.table.c[self.time], self.table.c.id
        at, last = place
        ahead = [f for f in begins if (f.value < at if falling else f.value > at)
                 or (f.value == at and f.operator in ("gt", "lt"))]
        if ahead:  # the page begins behind the marker anyway
            return [[*(self._compare(f, near) for f in ahead), *ends]]
        if dialect.name in ("mysql", "mariadb"):
            # No range is found in a comparison of tuples: first those of the same time.
            return [[time == at, key < last if falling else key > last, *ends],
                    [time < at if falling else time > at, *ends]]
        here, there = sa.tuple_(time, key), sa.tuple_(sa.literal(at, time.type), last)
        return [[here < there if falling else here > there, *ends]]

    def _compare(self, wanted: Filter, side: set[str]) -> sa.ColumnElement[bool]:
        operator = wanted.operator
        if operator == "eq":
            operator = "gte" if side is _LOWER else "lte"
        return condition(self.table, Filter(self.time, operator, wanted.value))


def _order(page: Page, *columns: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
    return [column.desc() if way == "desc" else column.asc()
            for column, (_, way) in zip(columns, page.keys, strict=True)]
