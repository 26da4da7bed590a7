# SPDX-License-Identifier: Apache-2.0
"""What is new in many logs at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import Database
from qinling_exec.executions import logs, records, states

#: Bytes behind each place that one look reads, and a piece more at the most.
WINDOW = logs.PIECE
#: Places of one query.
_BATCH = 100

_table = models.ExecutionLog.__table__


@dataclass
class Tail:
    """What a look has found of one execution's log.

    :param status: of the execution, None when there is none any more.
    :param pieces: position -> bytes, those behind each place that was asked for.
    """

    status: str | None
    pieces: dict[int, bytes] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True when there is nothing more than what has been found."""
        return self.status in states.ENDED

    def behind(self, place: int) -> list[bytes]:
        """Return the pieces from a place on, without a gap."""
        found = []
        while (piece := self.pieces.get(place)) is not None:
            found.append(piece)
            place += len(piece)
        return found


def look(database: Database, wanted: Mapping[str, Collection[int]]) -> dict[str, Tail]:
    """Look for what is behind some places of logs, where pieces begin.

    :param wanted: execution id -> places.
    """
    found: dict[str, Tail] = {}
    places = [(name, place) for name, many in wanted.items() for place in many]
    for begin in range(0, len(places), _BATCH):
        _look(database, places[begin:begin + _BATCH], found)
    return found


def _look(database: Database, places: list[tuple[str, int]], found: dict[str, Tail]) -> None:
    ids = list({name for name, _ in places})
    position = _table.c.position
    status = sa.select(records.table.c.id, records.table.c.status).where(
        records.table.c.id.in_(ids)
    )
    pieces = sa.select(_table.c.execution_id, position, _table.c.data).where(sa.or_(*(
        sa.and_(_table.c.execution_id == name, position >= place, position < place + WINDOW)
        for name, place in places
    )))
    with database.reader() as connection:
        # The status first: what has ended has all its log.
        known = dict(connection.execute(status).tuples().all())
        for name in ids:
            found.setdefault(name, Tail(known.get(name)))
        for row in connection.execute(pieces):
            found[row.execution_id].pieces[row.position] = row.data
