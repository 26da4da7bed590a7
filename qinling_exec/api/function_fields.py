# SPDX-License-Identifier: Apache-2.0
"""Checks the fields of a function, which come as a form or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from qinling_exec import exceptions
from qinling_exec.api import body as bodies
from qinling_exec.api.types import base
from qinling_exec.catalogue.functions import IMAGE, PACKAGE

_CODE_DEPTH = 10
_SWIFT = "swift"
_UNITS = {"cpu": "millicpu", "memory": "bytes", "timeout": "seconds"}
_COMMON = {"name", "description", "code", "entry", "cpu", "memory_size", "timeout",
           "max_attempts", "retry_on_failure"}
#: What ``code`` may have.
_CODE = {"source", "md5sum", "image", "swift"}
#: The known client sends what it has of ``code`` as fields of their own when it updates.
_CLIENT = {"source", "md5sum"}


class FunctionFields:
    """Turns fields as they come into column values."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._limits = conf.limits

    def of_new(self, given: Mapping[str, Any], has_package: bool) -> dict[str, Any]:
        """Return the values of a new function.

        :param has_package: a package came along; one made of an image has none.
        :raises qinling_exec.exceptions.InputError: a field is missing, unknown or wrong.
        """
        fields = _known(given, _COMMON | {"runtime_id"})
        if "code" not in fields:
            raise exceptions.InputError("Required param is missing. Required: {'code'}")
        values = self._resources({
            "timeout": self._limits.default_timeout, "cpu": self._limits.default_cpu,
            "memory_size": self._limits.default_memory, **fields,
        })
        code = values["code"] = _code(fields["code"])
        source = code.get("source")
        if source not in (PACKAGE, IMAGE, _SWIFT):
            raise exceptions.InputError(
                "Invalid code source specified, available sources: image, package, swift"
            )
        if source == IMAGE:
            if has_package:
                raise exceptions.InputError("A function made of an image has no package.")
            return {**values, "code": _image(code), "entry": None, "runtime_id": None}
        if not fields.get("runtime_id"):
            raise exceptions.InputError('"runtime_id" must be specified.')
        if source == _SWIFT:
            raise _no_swift(code)
        values["runtime_id"] = _text("runtime_id", fields["runtime_id"], 255)
        values["entry"] = _entry(fields.get("entry", "main.main"))
        return values

    def of_change(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is to change.

        :raises qinling_exec.exceptions.InputError: a field is unknown, fixed or wrong.
        """
        fields = _known(given, _COMMON | _CLIENT)
        values = self._resources(fields)
        code = _code(values.pop("code", {}))
        code.update({name: values.pop(name) for name in _CLIENT if name in values})
        if code:
            values["code"] = code
        if "entry" in values:
            values["entry"] = _entry(values["entry"])
        return values

    def _resources(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Check texts and numbers."""
        values = dict(fields)
        for column, name in (("timeout", "timeout"), ("cpu", "cpu"), ("memory_size", "memory")):
            if column in values:
                low = getattr(self._limits, f"min_{name}")
                high = getattr(self._limits, f"max_{name}")
                values[column] = _number(name, values[column], low, high)
        if "max_attempts" in values:
            values["max_attempts"] = _attempts(values["max_attempts"], self._limits.max_attempts)
        if "retry_on_failure" in values:
            values["retry_on_failure"] = _flag("retry_on_failure", values["retry_on_failure"])
        for name in ("name", "description"):
            if name in values:
                values[name] = _text(name, values[name], 255)
        return values


def _known(given: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Return the fields that have a value. :raises InputError: one is not known."""
    for name in given:
        if name not in names:
            fixed = " It can't be changed." if name == "runtime_id" else ""
            raise exceptions.InputError(f'Unknown argument: "{name[:100]}"{fixed}')
    return {name: value for name, value in given.items() if value is not None}


def _number(name: str, value: Any, low: int, high: int) -> int:
    number = base.whole(value)
    if number is None:
        raise exceptions.InputError(
            f"Invalid {name} resource specified. An integer is required."
        )
    if not low <= number <= high:
        raise exceptions.InputError(
            f"{name} resource limitation not within the allowable range:"
            f" {low} ~ {high}({_UNITS[name]})."
        )
    return number


def _attempts(value: Any, most: int) -> int:
    number = base.whole(value)
    if number is None or not 1 <= number <= most:
        raise _wrong("max_attempts", value, f"A whole number from 1 to {most} is required.")
    return number


def _flag(name: str, value: Any) -> bool:
    try:
        return base.flag.validate(value)
    except ValueError as error:
        raise _wrong(name, value, "true or false is required.") from error


def _wrong(name: str, value: Any, why: str) -> exceptions.InputError:
    return exceptions.InputError(
        f"Invalid input for field/attribute {name}. Value: '{str(value)[:100]}'. {why}"
    )


def _text(name: str, value: Any, most: int) -> str:
    try:
        return base.Text(most).validate(value)
    except ValueError as error:
        raise _wrong(name, value, str(error)) from error


def _entry(value: Any) -> str:
    entry = _text("entry", value, 80)
    parts = entry.split(".")
    if len(parts) < 2 or not all(parts) or not entry.isprintable():
        raise exceptions.InputError(
            f"Invalid input for field/attribute entry. Value: '{entry}'. Name a module and a"
            " function in it, such as main.main."
        )
    return entry


def _code(value: Any) -> dict[str, Any]:
    """Return ``code``, which forms carry as JSON text."""
    if isinstance(value, str):
        try:
            value = bodies.parse(value.encode("utf-8", "surrogatepass"), _CODE_DEPTH)
        except exceptions.InputError as error:
            raise _wrong_code("It is not valid JSON.") from error
    if not isinstance(value, dict):
        raise _wrong_code('A JSON object such as {"source": "package"} is required.')
    if unknown := [key for key in value if key not in _CODE]:
        raise _wrong_code(f'Unknown key: "{unknown[0][:100]}".')
    md5sum = value.get("md5sum")
    if md5sum is not None and not isinstance(md5sum, str):
        raise _wrong_code("md5sum: a string is required.")
    return dict(value)


def _image(code: dict[str, Any]) -> dict[str, Any]:
    image = code.get("image")
    if not isinstance(image, str) or not image.strip():
        raise _wrong_code("image: the name of an image is required.")
    if image.split() != [image] or not image.isprintable():
        raise _wrong_code("image: the name of an image has no spaces in it.")
    return {"source": IMAGE, "image": _text("image", image, 255)}


def _no_swift(code: dict[str, Any]) -> exceptions.InputError:
    """Return what Qinling said of objects in Swift where it had no Keystone."""
    place = code.get("swift")
    if isinstance(place, dict) and place.get("container") and place.get("object"):
        return exceptions.InputError("Swift object not supported.")
    return exceptions.InputError(
        "Both container and object must be provided for swift type function."
    )


def _wrong_code(why: str) -> exceptions.InputError:
    return exceptions.InputError(f"Invalid input for field/attribute code. {why}")
