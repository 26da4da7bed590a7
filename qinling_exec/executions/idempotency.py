# SPDX-License-Identifier: Apache-2.0
"""Keys under which a client may send the same request again: it is carried out once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from oslo_db import exception as db_exc

from qinling_exec import exceptions
from qinling_exec.db import models
from qinling_exec.db.engine import Database, utcnow

LONGEST = 255
_BATCH = 500

_table = models.IdempotencyKey.__table__


class Taken(Exception):
    """Another request with the same key was faster."""


@dataclass(frozen=True)
class Key:
    """A client's key and what was asked under it.

    :param content: JSON-ready; requests are the same when these are equal.
    """

    project_id: str
    text: str
    content: list[object]

    @property
    def hash(self) -> str:
        """The SHA-256 of what was asked."""
        return hashlib.sha256(json.dumps(self.content).encode()).hexdigest()


def check(text: str | None) -> str | None:
    """Return the value of an Idempotency-Key header, None when there is none.

    :raises qinling_exec.exceptions.InputError: it can't be a key.
    """
    if text is None:
        return None
    if not 0 < len(text) <= LONGEST or not all(" " <= letter <= "~" for letter in text):
        raise exceptions.InputError(
            f"The header Idempotency-Key takes 1 to {LONGEST} printable ASCII characters."
        )
    return text


class Keys:
    """The keys that are remembered.

    :param seconds: for how long.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds

    def find(self, connection: sa.Connection, key: Key) -> str | None:
        """Return the id of the execution that was made under a key, None when it is new.

        :raises qinling_exec.exceptions.Conflict: it was used for another request.
        """
        row = connection.execute(sa.select(_table).where(
            *_is(key), _table.c.created_at >= self._oldest()
        )).first()
        if row is None:
            return None
        if row.request_hash != key.hash:
            raise exceptions.Conflict(
                "The Idempotency-Key was used for another request before. Use a new key for each"
                " execution, and the same one only to repeat a request as it was."
            )
        return str(row.execution_id)

    def insert(self, connection: sa.Connection, key: Key, execution_id: str) -> None:
        """Remember a key together with its execution, in the same transaction.

        :raises Taken: it is there already; the transaction can't go on.
        """
        try:
            connection.execute(sa.insert(_table), {
                "project_id": key.project_id, "key": key.text, "request_hash": key.hash,
                "execution_id": execution_id, "created_at": utcnow(),
            })
        except (db_exc.DBDuplicateEntry, db_exc.DBDeadlock) as error:
            raise Taken from error

    def forget(self, key: Key) -> None:
        """Forget a key if its time is over: it stands in the way of a new one."""
        with self._database.writer() as connection:
            connection.execute(sa.delete(_table).where(
                *_is(key), _table.c.created_at < self._oldest()
            ))

    def expire(self) -> int:
        """Forget old keys, a batch of them; return how many.

        Two processes at once do no harm.
        """
        query = (
            sa.select(_table.c.project_id, _table.c.key)
            .where(_table.c.created_at < self._oldest()).limit(_BATCH)
        )
        with self._database.reader() as connection:
            old = connection.execute(query).all()
        if old:
            with self._database.writer() as connection:
                connection.execute(
                    sa.delete(_table).where(
                        _table.c.project_id == sa.bindparam("project"),
                        _table.c.key == sa.bindparam("text"),
                        _table.c.created_at < self._oldest(),
                    ), [{"project": row.project_id, "text": row.key} for row in old],
                )
        return len(old)

    def _oldest(self) -> datetime:
        return utcnow() - timedelta(seconds=self._seconds)


def _is(key: Key) -> tuple[sa.ColumnElement[bool], ...]:
    return _table.c.project_id == key.project_id, _table.c.key == key.text
