# SPDX-License-Identifier: Apache-2.0
"""Remembers signatures that libraries work out anew for each request.

Pecan asks for those of controllers seven times, and unwraps every decorator by looking through
closures; that was more than half of the time of a request. oslo.policy asks for that of each
check of a rule. Signatures do not change, so this is the one place where the project replaces
functions of libraries.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pecan.core
import pecan.rest
import pecan.routing
import pecan.util
from oslo_policy import _checks


@functools.cache
def _of_function(function: Any) -> inspect.FullArgSpec:
    result: inspect.FullArgSpec = _original(function)
    return result


def _remembered(method: Any) -> inspect.FullArgSpec:
    """Return a callable's signature, found once for each function."""
    return _of_function(getattr(method, "__func__", method))


_original = pecan.util.getargspec
_of_check = functools.cache(inspect.getfullargspec)


class _Inspect:
    """The module ``inspect`` as far as oslo.policy's checks use it."""

    @staticmethod
    def getfullargspec(method: Any) -> inspect.FullArgSpec:
        """Return the signature of a check's method, found once for each function."""
        return _of_check(getattr(method, "__func__", method))


def install() -> None:
    """Let Pecan and oslo.policy use the remembered signatures."""
    _checks.inspect = _Inspect  # type: ignore[assignment, attr-defined]
    for module in (pecan.core, pecan.rest, pecan.routing, pecan.util):
        module.getargspec = _remembered
