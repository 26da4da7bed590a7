# SPDX-License-Identifier: Apache-2.0
"""Reads filters like ``status=in:success,failed`` from a query."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from webob.multidict import MultiDict

from qinling_exec import exceptions
from qinling_exec.api.types import base
from qinling_exec.db.listing import OPERATORS, Filter
from qinling_exec.db.models import LARGEST_INTEGER

_TRUE = {"true", "t", "yes", "y", "on", "1"}
_EQUALITY = ("eq", "neq", "in", "nin")
#: Of two ends of a time, the one that an operator compares with.
_TIME_OPERATORS = {"gte": ("gte", 0), "lt": ("lt", 0), "gt": ("gte", 1), "lte": ("lt", 1)}
_FALSE = {"false", "f", "no", "n", "off", "0", ""}


def parse(kinds: Mapping[str, type], given: Mapping[str, str | None],
          query: MultiDict | None = None) -> list[Filter]:
    """Return the filters of a query.

    :param kinds: the columns that may be filtered, with the type of their values.
    :param given: column -> text of the query, None where it has none.
    :param query: the query as it came: a filter that it repeats, such as a time's beginning and
        its end, holds each time.
    :raises qinling_exec.exceptions.InputError: a value does not fit its column.
    """
    return [each for name, last in given.items() if last is not None
            for text in ((query.getall(name) if query else None) or [last])
            for each in _filters(name, kinds[name], text)]


def _filters(name: str, kind: type, text: str) -> list[Filter]:
    operator, separator, value = text.partition(":")
    if not separator or operator not in OPERATORS:
        operator, value = "eq", text
    if operator == "has" and kind is not str:
        raise _wrong(name, text, "The operator 'has' works on text only.")
    if kind is bool and operator not in _EQUALITY:
        raise _wrong(name, text, f"The operator {operator!r} does not work on true and false.")
    several = operator in ("in", "nin")
    values = [_value(name, kind, item) for item in (value.split(",") if several else [value])]
    if kind is datetime:
        return _times(name, operator, values)
    return [Filter(name, operator, values if several else values[0])]


def _times(name: str, operator: str, values: list[datetime]) -> list[Filter]:
    """Return the filters for times of which a whole second stands for all that it contains.

    Replies show whole seconds, so that is what clients ask for.
    """
    spans = [(value, _end(value)) for value in values]
    if operator in ("neq", "nin"):
        return [Filter(name, "outside", spans)]
    if len(spans) > 1:
        return [Filter(name, "within", spans)]
    if operator in ("eq", "in"):
        return [Filter(name, "gte", spans[0][0]), Filter(name, "lt", spans[0][1])]
    meant, end = _TIME_OPERATORS[operator]
    return [Filter(name, meant, spans[0][end])]


def _end(value: datetime) -> datetime:
    try:
        return value + (timedelta(microseconds=1) if value.microsecond else timedelta(seconds=1))
    except OverflowError:
        return datetime.max


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
