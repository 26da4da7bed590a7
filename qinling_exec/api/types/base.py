# SPDX-License-Identifier: Apache-2.0
"""Field types that the request bodies share; their errors name what is wanted."""

from __future__ import annotations

import inspect
import uuid as uuid_module
from datetime import datetime
from typing import Any

import wsme
from wsme import types as wtypes

from qinling_exec import exceptions
from qinling_exec.db.models import LARGEST_INTEGER

#: Digits of a number in a text: longer ones cost more than they can mean.
_DIGITS = 1000


class Uuid(wtypes.UserType):
    """A uuid in any of its usual spellings, kept as it was written."""

    basetype = wtypes.text
    name = "uuid"

    @staticmethod
    def validate(value: Any) -> str:
        """Return the value. :raises qinling_exec.exceptions.InputError: it is no uuid."""
        try:
            uuid_module.UUID(value)
        except (ValueError, AttributeError, TypeError) as error:
            raise exceptions.InputError(f"Expected a uuid but received {value}.") from error
        return str(value)

    @classmethod
    def frombasetype(cls, value: Any) -> str | None:
        """Check a value from the query or the body."""
        return None if value is None else cls.validate(value)


class NewUuid(Uuid):
    """The id of something new: one spelling, so that it is one thing."""

    @classmethod
    def validate(cls, value: Any) -> str:
        """Return the value. :raises qinling_exec.exceptions.InputError: it is spelt otherwise."""
        given = Uuid.validate(value)
        if given != (usual := str(uuid_module.UUID(given))):
            raise exceptions.InputError(
                f"Invalid input for field/attribute id. Value: '{given}'. Write it as {usual}."
            )
        return given


class FixedUuid(Uuid):
    """A uuid that only the service gives."""

    @classmethod
    def validate(cls, value: Any) -> str:
        """Refuse the value. :raises qinling_exec.exceptions.InputError: always."""
        given = Uuid.validate(value)  # that it is none is told first
        raise exceptions.InputError(
            f"Invalid input for field/attribute id. Value: '{given}'. Cannot set read only field."
        )


class PathText(wtypes.UserType):
    """A part of the path that any database can look for."""

    basetype = wtypes.text
    name = "text"

    @staticmethod
    def validate(value: Any) -> str:
        """Return the value. :raises ValueError: it can't be stored, so it is nowhere."""
        check_storable(str(value))
        return str(value)

    @classmethod
    def frombasetype(cls, value: Any) -> str | None:
        """Check a value from the path."""
        return None if value is None else cls.validate(value)


class Text(wtypes.UserType):
    """A string.

    :param most: characters that it may have.
    :param any_text: also accept NUL and lone surrogates, which no text column takes.
    """

    basetype = object
    name = "text"

    def __init__(self, most: int | None = 255, any_text: bool = False) -> None:
        self._most = most
        self._any_text = any_text

    def validate(self, value: Any) -> str:
        """Return the value. :raises ValueError: it can't be stored."""
        if not isinstance(value, str):
            raise ValueError("A string is required.")
        if self._most is not None and len(value) > self._most:
            raise ValueError(f"It may have {self._most} characters at the most.")
        if not self._any_text:
            check_storable(value)
        return value


class Whole(wtypes.UserType):
    """A whole number; also as text, and as a float without a fraction, like clients send it.

    :param least: the smallest number accepted.
    """

    basetype = object
    name = "integer"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def validate(self, value: Any) -> int:
        """Return the number. :raises ValueError: it is none, or too small."""
        number = whole(value)
        if number is None:
            raise ValueError("A whole number is required.")
        if number < self._least:
            raise ValueError(f"Value should be greater or equal to {self._least}")
        return number


def whole(value: Any) -> int | None:
    """Return what a value says as a whole number, None when it says something else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value) if len(value) < _DIGITS else None
    return None


def check_storable(value: str) -> None:
    """Let a string pass that every database can store. :raises ValueError: it is not one."""
    if "\x00" in value:
        raise ValueError("A NUL character is not allowed.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("Half of a surrogate pair is not allowed.") from error


class Flag(wtypes.UserType):
    """A boolean, also as the words and numbers that leave no doubt."""

    basetype = object
    name = "boolean"

    def validate(self, value: Any) -> bool:
        """Return what a value says. :raises ValueError: it leaves a doubt."""
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
        if word in ("true", "t", "yes", "y", "on", "1"):
            return True
        if word in ("false", "f", "no", "n", "off", "0"):
            return False
        raise ValueError(f"Value not an unambiguous boolean: {value}")

    def frombasetype(self, value: Any) -> bool | None:
        """Check a value of the body."""
        return None if value is None else self.validate(value)


class Body(wtypes.Base):
    """Base of request bodies."""

    def __init_subclass__(cls) -> None:
        # Else WSME parses the source of the module to learn it, a quarter of the start.
        cls._wsme_attr_order = [
            name for name, value in inspect.getmembers(cls, wtypes.iswsattr)
            if not name.startswith("_") and not inspect.isroutine(value)]

    def given(self) -> dict[str, Any]:
        """Return the fields that the client sent."""
        values = {}
        for attribute in self._wsme_attributes:
            value = getattr(self, attribute.name)
            if not isinstance(value, wtypes.UnsetType):
                values[attribute.name] = value
        return values


def readonly() -> Any:
    """Return a field that clients can't set."""
    return wsme.wsattr(wtypes.text, readonly=True)


class Owned(Body):
    """Base of bodies of what belongs to a project."""

    project_id = readonly()
    created_at = readonly()
    updated_at = readonly()


def shown_time(value: datetime | None, exact: bool = False) -> str | None:
    """Return a time as Qinling shows it: UTC, whole seconds; ``exact`` to the microsecond."""
    if value is None:
        return None
    return value.isoformat(timespec="microseconds" if exact else "seconds") + "Z"


def require_integer(name: str, number: int) -> None:
    """Let a number pass that an integer column holds."""
    if number > LARGEST_INTEGER:
        raise exceptions.InputError(
            f"Invalid input for field/attribute {name}. Value: '{number}'. It is too large."
        )


uuid = Uuid()
new_uuid = NewUuid()
fixed_uuid = FixedUuid()
text = Text()
flag = Flag()
any_text = Text(None, any_text=True)
path_text = PathText()
version_number = Whole(0)
