# SPDX-License-Identifier: Apache-2.0
"""Makes a method of a controller an operation of the API: WSME checks what goes in."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

import pecan
import wsme
from wsme.api import FunctionDefinition
from wsme.rest import args as wsme_args

from qinling_exec import exceptions
from qinling_exec.context import RequestContext

JSON = "application/json"


class Invalid(exceptions.ServiceError):
    """What WSME says of a request, with the status that it gives."""

    def __init__(self, error: wsme.exc.ClientSideError) -> None:
        super().__init__(str(getattr(error, "faultstring", error)))
        self.code = error.code


def caller() -> RequestContext:
    """Return the context of the request at hand."""
    context: RequestContext = pecan.request.environ["qinling_exec.context"]
    return context


def expose(*types: Any, body: Any = None, status: int = 200) -> Callable[[Any], Any]:
    """Expose a method whose arguments WSME reads from path, query and JSON body.

    The method returns a JSON-ready dict, or None for an empty reply.

    :param types: WSME types of the arguments, in their order.
    :param body: WSME type of the last argument when that is the body.
    :param status: HTTP status of success.
    """

    def decorate(method: Any) -> Any:
        wsme.signature(None, *types, body=body)(method)
        definition = FunctionDefinition.get(method)
        definition.resolve_types(wsme.types.registry)

        @functools.wraps(method)
        def operation(self: Any, *args: Any, **kwargs: Any) -> Any:
            request = pecan.request
            try:
                args, kwargs = wsme_args.get_args(
                    definition, args, kwargs, request.params, None, request.body,
                    request.content_type or "text/plain",
                )
            except wsme.exc.UnknownArgument as error:
                raise _unknown(error, request) from error
            except wsme.exc.ClientSideError as error:
                raise Invalid(error) from error
            return answer(method(self, *args, **kwargs), status)

        return _published(operation, method, JSON)

    return decorate


def expose_plain(*content_types: str) -> Callable[[Any], Any]:
    """Expose a method that reads its request itself and returns :func:`answer`.

    Its faults are bare (``faultstring`` alone), as Qinling's were for these operations.
    """

    def decorate(method: Any) -> Any:
        @functools.wraps(method)
        def operation(self: Any, *args: Any, **kwargs: Any) -> Any:
            pecan.request.environ["qinling_exec.bare_fault"] = True
            return method(self, *args, **kwargs)

        return _published(operation, method, *(content_types or (JSON,)))

    return decorate


def _unknown(error: wsme.exc.UnknownArgument, request: Any) -> exceptions.InputError:
    """Name unknown arguments in the order of the query: WSME names them in any order."""
    names = error.argname.split(", ")
    asked = list(request.GET)
    names.sort(key=lambda name: asked.index(name) if name in asked else len(asked))
    return exceptions.InputError(f'Unknown argument: "{", ".join(names)}"')


def _published(operation: Any, method: Any, *content_types: str) -> Any:
    """Let Pecan route to an operation, by the arguments of the method that it wraps."""
    for content_type in content_types:
        operation = pecan.expose(content_type=content_type)(operation)
    pecan.util._cfg(operation)["argspec"] = inspect.getfullargspec(method)
    return operation


def answer(result: Any, status: int = 200) -> Any:
    """Make the reply of an operation."""
    response = pecan.response
    response.status = status
    if result is None:
        response.content_type = None
        response.body = b""
    else:
        response.content_type = JSON
        response.body = json.dumps(result).encode()
    return response
