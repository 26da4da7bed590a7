# SPDX-License-Identifier: Apache-2.0
"""What an error of a database means: whether to try again, and what a client is told."""

from __future__ import annotations

import enum

import sqlalchemy as sa
from oslo_db import exception as db_exc

from qinling_exec import exceptions


class Kind(enum.Enum):
    """What became of the transaction."""

    #: The connection is gone. What was sent last may have been carried out.
    LOST = enum.auto()
    #: Rolled back in favour of another: a deadlock, a serialization or certification failure.
    CONFLICT = enum.auto()
    #: A row of that key is there already.
    DUPLICATE = enum.auto()
    #: A limit of time or of connections was met; the transaction is rolled back.
    BUSY = enum.auto()
    #: No room is left to store anything.
    FULL = enum.auto()
    #: The database can't keep such a value.
    VALUE = enum.auto()
    #: It is longer than what the database takes in one piece.
    TOO_LARGE = enum.auto()
    OTHER = enum.auto()


#: Stands for errors of libpq that have no SQLSTATE.
_NO_SERVER = "libpq"
#: SQLSTATEs of PostgreSQL, error numbers of MariaDB and MySQL.
_CODES: dict[Kind, frozenset[str | int]] = {
    # 1020: changed since it was read. 1213 is also what Galera answers when it fails to certify.
    Kind.CONFLICT: frozenset({"40001", "40P01", 1213, 1020}),
    # Timeouts of a statement and of a lock; too many connections; the server's memory is full.
    Kind.BUSY: frozenset({"57014", "55P03", "53300", "53200", "25P03",
                          1205, 1969, 3024, 1040, 1203, 1226}),
    Kind.FULL: frozenset({"53100", 1021, 1114, 3, 28}),
    Kind.TOO_LARGE: frozenset({1153}),
    Kind.VALUE: frozenset({1264, 1292, 1366, 1406, 1300, 1411, 1258}),
    # Not to be reached, or not with these credentials; about to end, starting up, read-only (a
    # failover has made another one the primary) or no working part of its cluster: another
    # connection may lead to a better one.
    Kind.LOST: frozenset({_NO_SERVER, "28000", "28P01", "3D000", "57P01", "57P02", "57P03",
                          "57P05", "25006", "08000", "08001", "08003", "08004", "08006",
                          1044, 1045, 1049, 1047, 1053, 1290, 1792, 1836, 1927,
                          2002, 2003, 2006, 2013}),
}
_BY_CODE = {each: kind for kind, codes in _CODES.items() for each in codes}
_TEXTS = (
    ("database is locked", Kind.BUSY),
    ("database or disk is full", Kind.FULL),
    ("No space left", Kind.FULL),
    ("NUL (0x00)", Kind.VALUE),
    ("too large to convert", Kind.VALUE),
)


def kind(error: BaseException) -> Kind:
    """Return what an error of SQLAlchemy, oslo.db or a driver means."""
    errors = chain(error)
    for each in errors:
        found = _BY_CODE.get(code(each) or "")
        if found is not None:
            return found
    for each in errors:
        if isinstance(each, db_exc.DBConnectionError) or getattr(
                each, "connection_invalidated", False):
            return Kind.LOST
        if isinstance(each, db_exc.DBDuplicateEntry):
            return Kind.DUPLICATE
        if isinstance(each, sa.exc.TimeoutError):
            return Kind.BUSY
        if isinstance(each, (db_exc.DBDataError, db_exc.DBInvalidUnicodeParameter,
                             sa.exc.DataError, UnicodeEncodeError, OverflowError)):
            return Kind.VALUE
    text = " ".join(map(str, errors))
    return next((meant for part, meant in _TEXTS if part in text), Kind.OTHER)


def code(error: BaseException) -> str | int | None:
    """Return the database's own code for an error: an SQLSTATE or MariaDB's number."""
    module = type(error).__module__.partition(".")[0]
    first = error.args[0] if error.args else None
    if module in ("pymysql", "MySQLdb"):
        return first if isinstance(first, int) else None
    if isinstance(first, dict):  # pg8000
        return first.get("C")
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    names = {base.__name__ for base in type(error).__mro__}
    if state is None and module.startswith("psycopg") and "OperationalError" in names:
        return _NO_SERVER  # libpq's own error: there was no answer
    return state


def chain(error: BaseException) -> list[BaseException]:
    """Return an error with those that it was made of."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        inner = getattr(following, "inner_exception", None) or getattr(following, "orig", None)
        following = inner if isinstance(inner, BaseException) else following.__cause__
    return found


def means_another_connection(error: BaseException) -> bool:
    """Tell whether an error's connection is of no use any more, though it still answers."""
    return _BY_CODE.get(code(error) or "") is Kind.LOST


def answer(error: BaseException) -> exceptions.ServiceError | None:
    """Return what a client is told of an error, None when it is a fault of the service."""
    found = kind(error)
    if found is Kind.LOST:
        return exceptions.Unavailable("The database can't be reached. Try again later.")
    if found is Kind.CONFLICT or found is Kind.BUSY:
        return exceptions.Unavailable("The database is busy. Try again later.")
    if found is Kind.TOO_LARGE:
        return exceptions.TooLarge("A value is larger than what the database takes.")
    if found is Kind.FULL:
        return exceptions.InsufficientStorage()
    if found is Kind.VALUE:
        return exceptions.InputError("A value of the request can't be stored or compared: it is"
                                     " too long or too large, or it holds a NUL character or half"
                                     " a character.")
    return None
