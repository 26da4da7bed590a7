# SPDX-License-Identifier: Apache-2.0
"""The body guard: what reaches WSME is JSON that it can't stumble over."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any
from urllib.parse import unquote_to_bytes

from qinling_exec import exceptions
from qinling_exec.api import stream

#: Forms are read by the operations that take them.
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_JSON = ("application/json", "text/json", "text/javascript", "application/javascript")
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.I)
_STRING = re.compile(r'"[^"]*"?')
_NO_BRACKET = re.compile(r"[^][{}]+")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


class BodyGuard:
    """Reads JSON bodies, within limits, and refuses what WSME answers 500 to.

    :param limit: bytes of a JSON body.
    :param depth: levels of nesting.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], limit: int,
                 depth: int) -> None:
        self._application = application
        self._limit = limit
        self._depth = depth

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        _check_address(environ)
        kind = content_type(environ)
        if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
            raise exceptions.UnsupportedMediaType(
                "Content-Encoding is not supported: send the body as it is."
            )
        if kind not in FORMS:
            body = b"".join(stream.of(environ, self._limit).pieces(self._limit))
            if body:
                self._check(environ, kind, body)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        return self._application(environ, start)

    def _check(self, environ: dict[str, Any], kind: str, body: bytes) -> None:
        if kind not in _JSON:
            raise exceptions.UnsupportedMediaType(f"Unknown mimetype: {kind or 'text/plain'}")
        charset = _CHARSET.search(environ["CONTENT_TYPE"])
        if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
            raise exceptions.UnsupportedMediaType("JSON must be sent in UTF-8.")
        environ["CONTENT_TYPE"] = "application/json"
        value = parse(body, self._depth)
        if not isinstance(value, dict):
            raise exceptions.InputError("The request body must be a JSON object.")
        environ["qinling_exec.json"] = value


def _check_address(environ: dict[str, Any]) -> None:
    """Refuse a path or query that is no text: Pecan and WebOb trip over it."""
    try:
        environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8")
        unquote_to_bytes(environ.get("QUERY_STRING", "").encode("latin-1")).decode("utf-8")
    except UnicodeError as error:
        raise exceptions.InputError("The path or the query is not UTF-8.") from error


def content_type(environ: dict[str, Any]) -> str:
    """Return a request's content type without parameters, in lower case."""
    return str(environ.get("CONTENT_TYPE") or "").partition(";")[0].strip().lower()


def parse(body: bytes, most: int) -> Any:
    """Return what JSON says.

    :param most: levels of nesting.
    :raises qinling_exec.exceptions.InputError: it is not JSON, ambiguous or nested too deep.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise exceptions.InputError("Request is not in valid JSON format: it is not UTF-8.") from (
            error)
    if depth(text) > most:
        raise exceptions.InputError(f"The request body is nested deeper than {most} levels.")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant,
                          parse_float=_finite)
    except exceptions.InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise exceptions.InputError("Request is not in valid JSON format") from error


def depth(text: str) -> int:
    """Return how deep brackets are nested in a text, outside of JSON strings.

    Without recursion, and with a loop over brackets only: bodies may be long.
    """
    if text.count("[") + text.count("{") < 4:
        return 3
    bare = text.replace("\\\\", "").replace('\\"', "")
    brackets = _NO_BRACKET.sub("", _STRING.sub("", bare))
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise exceptions.InputError(f"The key {name[:100]!r} occurs twice in an object.")
            seen.add(name)
    return value


def _no_constant(name: str) -> Any:
    raise exceptions.InputError(f"{name} is not a JSON number.")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise exceptions.InputError(f"The number {text[:100]} is too large.")
    return number
