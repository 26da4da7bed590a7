# SPDX-License-Identifier: Apache-2.0
"""Remembers the signatures of controllers, which Pecan works out seven times a request.

Pecan unwraps every decorator of a controller by looking through closures, each time it
asks for the signature; that was more than half of the time of a request. Signatures do not
change, so this is the one place where the project replaces a function of Pecan's.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pecan.core
import pecan.rest
import pecan.util


@functools.cache
def _of_function(function: Any) -> inspect.FullArgSpec:
    result: inspect.FullArgSpec = _original(function)
    return result


def _remembered(method: Any) -> inspect.FullArgSpec:
    """Return a callable's signature, found once for each function."""
    return _of_function(getattr(method, "__func__", method))


_original = pecan.util.getargspec


def install() -> None:
    """Let Pecan use the remembered signatures."""
    for module in (pecan.core, pecan.rest, pecan.util):
        if hasattr(module, "getargspec"):
            module.getargspec = _remembered
