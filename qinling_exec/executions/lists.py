# SPDX-License-Identifier: Apache-2.0
"""Lists of executions: pages that are as fast among ten million as among ten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.context import RequestContext
from qinling_exec.db import listing, markers, merge, scope, timelimit
from qinling_exec.db.engine import Database
from qinling_exec.db.listing import Filter
from qinling_exec.executions import records, states
from qinling_exec.executions.records import Execution

_table = records.table
_INDEXES = merge.Indexes(
    _table,
    leading=(("function_id", "project_id", "status"), ("project_id", "status"), ("status",)),
    domains={"status": states.ALL},
)
_ADVICE = (
    "The list takes too long. What is always fast: sorted by created_at, all rows or those of a"
    " status, function_id, project_id or created_at. Add one of these filters, or take out others."
)


class Lists:
    """Answers lists of executions.

    :param seconds: what the query of a page may take.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds

    def page(self, context: RequestContext, query: scope.Query) -> scope.Slice[Execution]:
        """Return a page of executions.

        :raises qinling_exec.exceptions.InputError: the marker is not valid; or the list is not
            one of the fast ones and takes too long.
        :raises qinling_exec.exceptions.Unavailable: the database is too slow for any list.
        """
        filters = [*scope.filters(context, query), *query.filters]
        page = query.page
        with self._database.reader() as connection:
            place = page.marker and markers.position(
                _table, scope.listed(_table, context, query), page.names, page.marker, connection)
            rows = self._rows(connection, filters, page, place or None)
        more, rows = len(rows) > page.limit, rows[: page.limit]
        marker = markers.token(rows[-1]._mapping, page.names) if more else None
        return scope.Slice([records.build(row) for row in rows], marker)

    def _rows(self, connection: sa.Connection, filters: Sequence[Filter], page: listing.Page,
              place: Sequence[Any] | None) -> Sequence[sa.Row[Any]]:
        plan = _INDEXES.plan(filters, page, connection)
        if plan is not None and not plan.ranges:  # such as status=neverheard
            return []
        error = exceptions.InputError(_ADVICE) if plan is None or plan.rest else (
            exceptions.Unavailable("The database is too slow to list. Try again later."))
        query = _query(connection.dialect, plan, filters, page, place)
        with timelimit.limited(connection, self._seconds, error):
            return connection.execute(query).all()


def _query(dialect: sa.Dialect, plan: merge.Plan | None, filters: Sequence[Filter],
           page: listing.Page, place: Sequence[Any] | None) -> sa.Select[Any]:
    """Return the query of a page, with inputs and results."""
    if plan is None:
        chosen = listing.query(_table, (), filters, page, place, dialect)
        chosen = chosen.with_only_columns(_table.c.id)
    else:
        chosen = _INDEXES.query(plan, page, place, dialect)
    return records.whole(chosen.subquery("chosen")).order_by(*listing.order(_table, page))
