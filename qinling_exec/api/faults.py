# SPDX-License-Identifier: Apache-2.0
"""Every error is answered as JSON in one shape, and leaks nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

from webob import Request

from qinling_exec import exceptions
from qinling_exec.api.stream import BodyStream

LOG = logging.getLogger(__name__)

_REASONS = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 406: "Not Acceptable", 409: "Conflict", 411: "Length Required",
    413: "Content Too Large", 415: "Unsupported Media Type", 416: "Range Not Satisfiable",
    429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
    507: "Insufficient Storage",
}
#: What to say where a library answered with a page or nothing.
_TEXTS = {
    400: "The request is not valid.",
    401: "The request you have made requires authentication.",
    403: "Operation not allowed",
    404: "There is nothing at this path.",
    405: "The method is not allowed here: see the Allow header.",
    406: "The reply can't be given in a type that the Accept header allows.",
    413: "The request body is too large.",
    415: "The content type of the request is not supported.",
    416: "The requested range is not in the log.",
    503: "The service is not available right now. Try again later.",
}
_LONGEST = 1000
_KEPT = {"allow", "retry-after", "www-authenticate", "content-range", "accept-ranges"}


class Faults:
    """Outermost but for the request id: makes errors of all kinds alike.

    :param body_limit: bytes of any body. One over its own, smaller limit is read to its end, so
        that a client that is still sending gets the reply.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], body_limit: int) -> None:
        self._application = application
        self._body_limit = body_limit

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        try:
            body = BodyStream(environ, self._body_limit)
        except exceptions.ServiceError as error:
            return _answer(environ, start, error.code, str(error), [])
        reply = self._reply(environ, start)
        body.drain()
        return reply

    def _reply(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            response = Request(environ).call_application(self._application, catch_exc_info=False)
        except exceptions.ServiceError as error:
            return _answer(environ, start, error.code, str(error), list(error.headers.items()))
        except Exception:
            LOG.exception("%s %s failed.", environ.get("REQUEST_METHOD"),
                          environ.get("PATH_INFO"))
            return _answer(environ, start, 500, _internal(environ), [])
        status, headers, body = response[:3]
        code = int(status[:3])
        if code < 400:
            start(status, headers)
            return body  # type: ignore[no-any-return]
        if hasattr(body, "close"):
            body.close()
        kept = [(name, value) for name, value in headers if name.lower() in _KEPT]
        if code == 503 and not any(name.lower() == "retry-after" for name, _ in kept):
            kept += exceptions.Unavailable.headers.items()
        text = _TEXTS.get(code) or (_internal(environ) if code >= 500 else status[4:])
        return _answer(environ, start, code, text, kept)


def _internal(environ: dict[str, Any]) -> str:
    return ("Internal server error. The service's log tells more under the request id"
            f" {environ.get('openstack.request_id', '-')}.")


def _answer(environ: dict[str, Any], start: Callable[..., Any], code: int, text: str,
            headers: list[tuple[str, str]]) -> list[bytes]:
    """Answer in Qinling's shape; some operations always had the bare one."""
    if len(text) > _LONGEST:  # it repeats what was sent
        text = f"{text[:_LONGEST // 2]} … {text[-_LONGEST // 2:]}"
    fault: dict[str, Any] = {"faultstring": text}
    if not environ.get("qinling_exec.bare_fault"):
        fault = {"faultcode": "Client" if code < 500 else "Server", **fault, "debuginfo": None}
    body = json.dumps(fault).encode()
    start(f"{code} {_REASONS.get(code, 'Error')}", [
        ("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers,
    ])
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]
