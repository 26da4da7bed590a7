# SPDX-License-Identifier: Apache-2.0
"""Reads filters like ``status=in:success,failed`` from a query."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from qinling_exec import exceptions
from qinling_exec.api.types import base
from qinling_exec.db.listing import OPERATORS, Filter
from qinling_exec.db.models import LARGEST_INTEGER

_TRUE = {"true", "t", "yes", "y", "on", "1"}
_FALSE = {"false", "f", "no", "n", "off", "0", ""}


def parse(kinds: Mapping[str, type], given: Mapping[str, str | None]) -> list[Filter]:
    """Return the filters of a query.

    :param kinds: the columns that may be filtered, with the type of their values.
    :param given: column -> text of the query, None where it has none.
    :raises qinling_exec.exceptions.InputError: a value does not fit its column.
    """
    return [_filter(name, kinds[name], text) for name, text in given.items() if text is not None]


def _filter(name: str, kind: type, text: str) -> Filter:
    operator, separator, value = text.partition(":")
    if not separator or operator not in OPERATORS:
        operator, value = "eq", text
    if operator == "has" and kind is not str:
        raise _wrong(name, text, "The operator 'has' works on text only.")
    if operator in ("in", "nin"):
        return Filter(name, operator, [_value(name, kind, item) for item in value.split(",")])
    return Filter(name, operator, _value(name, kind, value))


def _value(name: str, kind: type, text: str) -> Any:
    try:
        if kind is bool:
            return boolean(text)
        if kind is int:
            return _integer(text)
        if kind is datetime:
            return _time(text)
        base.check_storable(text)
    except ValueError as error:
        raise _wrong(name, text, str(error)) from error
    return text


def boolean(text: str) -> bool:
    """Return what a text says. :raises ValueError: it is not an unambiguous boolean."""
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("Use true or false.")
    return word in _TRUE


def _integer(text: str) -> int:
    number = base.whole(text)
    if number is None:
        raise ValueError("A whole number is required.")
    return max(-LARGEST_INTEGER, min(number, LARGEST_INTEGER))


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text.strip().replace(" ", "T"))
    except ValueError as error:
        raise ValueError("Use a time such as 2026-01-31T12:00:00Z.") from error
    if time.tzinfo is not None:
        try:
            time = time.astimezone(UTC).replace(tzinfo=None)
        except OverflowError as error:
            raise ValueError("The time is out of range.") from error
    return time


def _wrong(name: str, text: str, why: str) -> exceptions.InputError:
    return exceptions.InputError(
        f"Invalid input for field/attribute {name}. Value: '{text[:100]}'. {why}"
    )
