# SPDX-License-Identifier: Apache-2.0
"""Errors that the service answers with; each carries its HTTP status."""

from __future__ import annotations


class ServiceError(Exception):
    """Base of every error meant for the caller.

    ``str(error)`` is shown to the client as it is: it must name what to do
    and never carry SQL, paths, class names or secrets.
    """

    code: int = 500
    message: str = "The service failed to answer. Try again later."
    #: Extra response headers, such as Retry-After.
    headers: dict[str, str] = {}

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)


class InputError(ServiceError):
    """The request is wrong; sending it again will not help."""

    code = 400
    message = "The request is not valid."


class Unauthorized(ServiceError):
    """No valid identity came with the request."""

    code = 401
    message = "The request you have made requires authentication."


class NotAllowed(ServiceError):
    """The caller may not do this, or the object's state forbids it."""

    code = 403
    message = "Operation not allowed"


class OverQuota(ServiceError):
    """The project has all that it may have; some of it must go, or the limit be raised."""

    code = 403
    message = "Quota exceeded."


class NotFound(ServiceError):
    """There is no such object in what the caller may see."""

    code = 404
    message = "Object not found"


class MethodNotAllowed(ServiceError):
    """The object does not support the operation."""

    code = 405
    message = "The method is not allowed for this object."


class NotAcceptable(ServiceError):
    """The reply exists in no form that the Accept header allows."""

    code = 406
    message = "Only application/json can be produced here: check the Accept header."


class Conflict(ServiceError):
    """The object's state, or another object, stands in the way."""

    code = 409
    message = "The request conflicts with the current state of the object."


class TooLarge(ServiceError):
    """The body is over its limit."""

    code = 413
    message = "The request body is too large."


class UnsupportedMediaType(ServiceError):
    """The body is in a form that the operation does not read."""

    code = 415
    message = "Unknown mimetype"


class RangeNotSatisfiable(ServiceError):
    """The bytes asked for do not exist."""

    code = 416
    message = "The requested range is not satisfiable."


class TooManyRequests(ServiceError):
    """The caller's project uses all that it may; the same request may work later."""

    code = 429
    message = "The project has too many executions waiting. Try again later."
    headers = {"Retry-After": "5"}


class Unavailable(ServiceError):
    """A part of the service is down or full; the same request may work later."""

    code = 503
    message = "The service is not available right now. Try again later."
    headers = {"Retry-After": "2"}


class InsufficientStorage(ServiceError):
    """There is no room left to store what was sent."""

    code = 507
    message = "The service has no storage left for this. Nothing was stored."
