# SPDX-License-Identifier: Apache-2.0
"""The input of an execution as the arguments of an image's program."""

from __future__ import annotations

import json

from qinling_exec import exceptions

#: What Linux takes as one argument, with its end, and about what a cluster stores of one object.
_ONE, _ALL = 128 * 1024, 512 * 1024


def of_image(given: str | None) -> tuple[str, ...]:
    """Return the arguments that an input stands for.

    Nothing (or JSON null) is none, so that the image's own stay; a JSON list is one for each
    element; a JSON object is one, the text itself. Any other text is split at white space, as
    Qinling does.

    :raises qinling_exec.exceptions.InputError: they can't be the arguments of a program.
    """
    found = tuple(_split(given))
    sizes = [_size(argument) for argument in found]
    if any(size >= _ONE for size in sizes) or sum(sizes) > _ALL:
        raise _wrong(f"They are too long: {_ONE - 1} bytes for each and {_ALL} for all of them are"
                     " allowed.")
    return found


def _split(given: str | None) -> list[str]:
    if given is None:
        return []
    try:
        value = json.loads(given)
    except (ValueError, RecursionError):
        return given.split()
    if value is None:
        return []
    if isinstance(value, list):
        return [item if isinstance(item, str) else json.dumps(item) for item in value]
    return [given] if isinstance(value, dict) else given.split()


def _size(argument: str) -> int:
    if "\0" in argument:
        raise _wrong("The character with the code 0 can't be in one.")
    try:
        return len(argument.encode())
    except UnicodeEncodeError as error:
        raise _wrong("Half of a surrogate pair can't be in one.") from error


def _wrong(why: str) -> exceptions.InputError:
    return exceptions.InputError(
        "Invalid input for field/attribute input. A function made of an image gets it as the"
        f" arguments of its program. {why}"
    )
