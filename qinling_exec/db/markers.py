# SPDX-License-Identifier: Apache-2.0
"""Markers: the place in a list where its next page begins."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from qinling_exec import exceptions

_INVALID = "The marker is not valid: follow the 'next' link."


def token(row: sa.RowMapping, names: Sequence[str]) -> str:
    """Return the marker that stands for a row's place, also after the row is gone.

    :param names: the sort keys of the list.
    """
    values = [_plain(row[name]) for name in names]
    text = json.dumps([list(names), values])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position(table: sa.Table, scope: Sequence[sa.ColumnElement[bool]], names: Sequence[str],
             marker: str, connection: sa.Connection) -> list[Any]:
    """Return the values of the sort keys at a marker: a token, or the id of a row.

    :param scope: what the caller may see at all.
    :raises qinling_exec.exceptions.InputError: it is of no row, or of another order.
    """
    if "-" not in marker or len(marker) != 36:
        return [_typed(table.c[name], value)
                for name, value in zip(names, _decode(marker, names), strict=True)]
    columns = [table.c[name] for name in names]
    row = connection.execute(sa.select(*columns).where(table.c.id == marker, *scope)).first()
    if row is None:
        raise exceptions.InputError(
            f"The marker {marker} is not found: its object may be deleted. Follow the 'next' link."
        )
    return list(row)


def _decode(marker: str, names: Sequence[str]) -> list[Any]:
    try:
        raw = base64.urlsafe_b64decode(marker.encode() + b"=" * (-len(marker) % 4))
        given, values = json.loads(raw)
    except (ValueError, UnicodeError, binascii.Error, RecursionError, TypeError) as error:
        raise exceptions.InputError(_INVALID) from error
    if given != list(names) or not isinstance(values, list) or len(values) != len(names):
        raise exceptions.InputError("The marker belongs to another sort order: start without one.")
    return values


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _typed(column: sa.Column[Any], value: Any) -> Any:
    """Turn a value out of a marker back into one of the column's type."""
    if value is None and column.nullable:
        return None
    kind: type = column.type.python_type
    try:
        value = datetime.fromisoformat(value) if kind is datetime else value
        if not isinstance(value, kind) or "\0" in str(value):
            raise TypeError
    except (TypeError, ValueError) as error:
        raise exceptions.InputError(_INVALID) from error
    return value
