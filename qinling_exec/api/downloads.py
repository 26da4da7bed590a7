# SPDX-License-Identifier: Apache-2.0
"""Replies that are a package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import pecan
from webob.static import FileIter

from qinling_exec import exceptions


def wanted(request: Any, boolean: Callable[[str], bool]) -> bool:
    """Tell whether ``?download=true`` was asked for.

    :raises qinling_exec.exceptions.InputError: the value is not a boolean.
    """
    text = request.GET.get("download", "")
    try:
        return boolean(text)
    except ValueError as error:
        raise exceptions.InputError(
            f"Invalid input for field/attribute download. Value: '{text[:100]}'. {error}"
        ) from error


def answer(package: BinaryIO, name: str) -> Any:
    """Stream an open package, which is closed at the end."""
    response = pecan.response
    response.content_type = "application/zip"
    response.content_length = package.seek(0, 2)
    package.seek(0)
    response.app_iter = FileIter(package)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
