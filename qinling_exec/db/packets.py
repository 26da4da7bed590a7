# SPDX-License-Identifier: Apache-2.0
"""What MariaDB and MySQL take in one piece.

They end the connection when a statement is longer than max_allowed_packet, which looks as if the
server had gone: what is too long once is too long always, and would be tried again for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions

_KEY = "max_allowed_packet"
#: The command's own byte, and some.
_OVERHEAD = 64
#: Bytes that a character takes at the most, escaped or in UTF-8.
_WIDEST = 4


def guard(engine: sa.Engine) -> None:
    """Refuse statements that the server would not take, before they are sent.

    :raises qinling_exec.exceptions.TooLarge: from what executes such a statement.
    """
    sa.event.listen(engine, "connect", _learn)
    sa.event.listen(engine, "before_cursor_execute", _check)


def _learn(connection: Any, record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        record.info[_KEY] = int(cursor.fetchone()[0])


def _check(connection: sa.Connection, cursor: Any, statement: str, parameters: Any,
           _context: object, executemany: bool) -> None:
    most = connection.info.get(_KEY, 0) - _OVERHEAD - len(statement)
    for each in parameters if executemany else (parameters,):
        if _size(each) * _WIDEST > most and _escaped(cursor, statement, each) > most:
            raise exceptions.TooLarge("A value is larger than what the database takes.")


def _size(parameters: Any) -> int:
    values: Iterable[Any] = (parameters.values() if isinstance(parameters, Mapping)
                             else parameters or ())
    return sum(len(value) for value in values if isinstance(value, (str, bytes)))


def _escaped(cursor: Any, statement: str, parameters: Any) -> int:
    """Return how many bytes a statement's parameters take as they are sent."""
    if not hasattr(cursor, "mogrify"):  # of other drivers than PyMySQL; a guess
        return _size(parameters)
    text: str = cursor.mogrify(statement, parameters)
    return len(text.encode("utf-8", "surrogateescape")) - len(statement)
