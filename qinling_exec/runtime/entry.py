# SPDX-License-Identifier: Apache-2.0
"""The function that a package's entry names, and how it is called."""

from __future__ import annotations

import importlib
from types import FunctionType
from typing import Any, Callable

_VAR_KEYWORDS = 0x08
_CONTEXT = ("execution_id", "attempt", "function_id", "function_version", "request_id")


class NoEntry(Exception):
    """The package has not what its entry names."""


class Entry:
    """An entry such as ``main.main``: module and function.

    :raises NoEntry: the module has no such function.
    :raises Exception: whatever importing the module raises.
    """

    def __init__(self, name: str) -> None:
        module_name, _, function_name = name.rpartition(".")
        module = importlib.import_module(module_name)
        function = getattr(module, function_name, None)
        if not callable(function):
            raise NoEntry(f"The package's entry is {name}, but its module {module_name} has no"
                          f" function {function_name}.")
        self._function: Callable[..., Any] = function
        self._context = _takes_context(function)

    def call(self, request: dict[str, Any]) -> Any:
        """Call the function with a run's input."""
        given = request.get("input")
        keywords = dict(given) if isinstance(given, dict) else {}
        if self._context:
            keywords["context"] = {"os_session": None,
                                   **{name: request.get(name) for name in _CONTEXT}}
        if given is None or isinstance(given, dict):
            return self._function(**keywords)
        return self._function(given, **keywords)


def _takes_context(function: Callable[..., Any]) -> bool:
    if type(function) is FunctionType and not vars(function):  # not wrapped, no other signature
        code = function.__code__
        named = code.co_varnames[code.co_posonlyargcount
                                 : code.co_argcount + code.co_kwonlyargcount]
        return bool(code.co_flags & _VAR_KEYWORDS) or "context" in named
    import inspect  # much memory, which every run pays for

    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return False
    if any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
        return True
    parameter = parameters.get("context")
    return parameter is not None and parameter.kind is not parameter.POSITIONAL_ONLY
