# SPDX-License-Identifier: Apache-2.0
"""Makes a method of a controller an operation of the API: WSME checks what goes in."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Collection
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

    The method returns a JSON-ready dict, None for an empty reply, or what :func:`answer` made.

    :param types: WSME types of the arguments, in their order.
    :param body: WSME type of the last argument when that is the body.
    :param status: HTTP status of success.
    """

    def decorate(method: Any) -> Any:
        wsme.signature(None, *types, body=body)(method)
        definition = FunctionDefinition.get(method)
        definition.resolve_types(wsme.types.registry)
        query = {argument.name for argument in definition.arguments if not argument.mandatory}

        @functools.wraps(method)
        def operation(self: Any, *args: Any, **kwargs: Any) -> Any:
            request = pecan.core.state.request  # pecan.request looks it up at each attribute
            if body is not None and len(args) > len(types):
                pecan.abort(404)  # Pecan takes what is too much in the path for the body
            _check_names(request, method, query, has_body=body is not None)
            try:
                args, kwargs = wsme_args.get_args(
                    definition, args, kwargs, request.params, None, request.body,
                    request.content_type or "text/plain",
                )
            except wsme.exc.ClientSideError as error:
                raise Invalid(error) from error
            result = method(self, *args, **kwargs)
            return result if result is pecan.core.state.response else answer(result, status)

        return _published(operation, method, JSON)

    return decorate


def expose_plain(*content_types: str, query: Collection[str] = (),
                 form: bool = False) -> Callable[[Any], Any]:
    """Expose a method that reads its request itself and returns :func:`answer`.

    Its faults are bare (``faultstring`` alone), as Qinling's were for these operations.

    :param query: names that the query may have.
    :param form: the method checks the names of a form's fields itself, the query's among them.
    """

    def decorate(method: Any) -> Any:
        @functools.wraps(method)
        def operation(self: Any, *args: Any, **kwargs: Any) -> Any:
            pecan.request.environ["qinling_exec.bare_fault"] = True
            if not form:
                _check_names(pecan.request, method, query, has_body=False)
            if any("\0" in part for part in args if part is not None):
                raise exceptions.InputError("The path has a NUL character.")
            return method(self, *args, **kwargs)

        return _published(operation, method, *(content_types or (JSON,)))

    return decorate


def _check_names(request: Any, method: Any, query: Collection[str], has_body: bool) -> None:
    """Refuse what nobody would read; without a body of its own an operation reads no body.

    What is part of the path comes from there alone: a DELETE of all with ``?id=`` deletes nothing.
    """
    given = [*request.GET] if has_body else [*request.GET,
                                             *request.environ.get("qinling_exec.json", ())]
    unknown = [name for name in dict.fromkeys(given) if name not in query]
    if unknown:
        text = f'Unknown argument: "{", ".join(unknown)}"'
        if unknown[0] in inspect.signature(method).parameters:
            text += ". It is given in the path only."
        raise exceptions.InputError(text)


def _published(operation: Any, method: Any, *content_types: str) -> Any:
    """Let Pecan route to an operation, by the arguments of the method that it wraps."""
    for content_type in content_types:
        operation = pecan.expose(content_type=content_type)(operation)
    pecan.util._cfg(operation)["argspec"] = inspect.getfullargspec(method)
    return operation


def answer(result: Any, status: int = 200) -> Any:
    """Make the reply of an operation."""
    response = pecan.core.state.response
    response.status = status
    if result is None:
        response.content_type = None
        response.body = b""
    else:
        response.content_type = JSON
        response.body = json.dumps(result).encode()
    return response
