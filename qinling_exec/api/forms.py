# SPDX-License-Identifier: Apache-2.0
"""Forms: the fields of a function, and its package as a stream."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import multipart

from qinling_exec import exceptions
from qinling_exec.api import body as bodies
from qinling_exec.catalogue.packages import Incoming, PackageStore

_TAKES_FORMS = re.compile(r"/v1/functions(/[^/]+)?/?\Z")
_CHUNK = 64 * 1024
_FIELDS = 32
_FIELD_SIZE = 64 * 1024


@dataclass(frozen=True)
class Form:
    """What was sent: texts from a form, or any JSON values from a JSON body."""

    fields: dict[str, Any]
    package: Incoming | None


class Forms:
    """Reads the bodies of POST and PUT of functions, before Pecan would do so in memory.

    :param store: receives packages; what no controller keeps is discarded.
    :param package_limit: bytes of a package.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], store: PackageStore,
                 package_limit: int) -> None:
        self._application = application
        self._store = store
        self._package_limit = package_limit

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request (PEP 3333)."""
        kind = bodies.content_type(environ)
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] not in ("POST", "PUT") or not _TAKES_FORMS.match(path):
            if kind in bodies.FORMS:
                raise exceptions.UnsupportedMediaType(f"Unknown mimetype: {kind}")
            return self._application(environ, start)
        environ["qinling_exec.bare_fault"] = True
        form = self._read(environ, kind)
        if kind in bodies.FORMS:
            environ["wsgi.input"] = io.BytesIO()
            environ["CONTENT_LENGTH"] = "0"
            environ["CONTENT_TYPE"] = ""
        environ["qinling_exec.form"] = form
        try:
            return self._application(environ, start)
        finally:
            if form.package is not None:
                form.package.discard()

    def _read(self, environ: dict[str, Any], kind: str) -> Form:
        if kind == "multipart/form-data":
            return self._read_multipart(environ)
        if kind == "application/x-www-form-urlencoded":
            return Form(_read_urlencoded(environ), None)
        return Form(dict(environ.get("qinling_exec.json", {})), None)

    def _read_multipart(self, environ: dict[str, Any]) -> Form:
        """Parse a multipart form while it comes in."""
        limit = self._package_limit + _FIELDS * _FIELD_SIZE
        length = bodies.content_length(environ)
        if length is not None and length > limit:
            raise self._too_large()
        _, options = multipart.parse_options_header(environ["CONTENT_TYPE"])
        fields: dict[str, Any] = {}
        package: Incoming | None = None
        try:
            parser = multipart.PushMultipartParser(options.get("boundary", ""),
                                                   max_segment_count=_FIELDS)
            segment, value = None, bytearray()
            for event in _events(parser, environ["wsgi.input"], length, limit):
                if isinstance(event, multipart.MultipartSegment):
                    segment, value = event, bytearray()
                    if _is_package(segment):
                        if package is not None:
                            raise exceptions.InputError("Only one package can be sent.")
                        package = self._store.receive()
                elif segment is None:
                    continue
                elif event is None:
                    if not _is_package(segment):
                        _add(fields, segment.name, bytes(value))
                elif _is_package(segment):
                    assert package is not None
                    package.write(bytes(event))
                    if package.size > self._package_limit:
                        raise self._too_large()
                else:
                    value += event
                    if len(value) > _FIELD_SIZE:
                        raise exceptions.InputError(
                            f"The form field {segment.name[:100]!r} is too long."
                        )
        except multipart.MultipartError as error:
            if package is not None:
                package.discard()
            raise exceptions.InputError(f"The form is not valid: {error}.") from error
        except BaseException:
            if package is not None:
                package.discard()
            raise
        return Form(fields, package)

    def _too_large(self) -> exceptions.TooLarge:
        return exceptions.TooLarge(f"A package may have {self._package_limit} bytes at the most.")


def _events(parser: Any, stream: Any, length: int | None, limit: int) -> Iterator[Any]:
    """Yield what the parser finds, reading no more than the request has."""
    size = 0
    while not parser.closed:
        wanted = _CHUNK if length is None else min(_CHUNK, length - size)
        data = stream.read(wanted) if wanted else b""
        size += len(data)
        if size > limit:
            raise exceptions.TooLarge(f"The request body may have {limit} bytes at the most.")
        yield from parser.parse(data)  # an end that comes too early raises here
    if length is not None and size < length:
        stream.read(min(_CHUNK, length - size))


def _is_package(segment: Any) -> bool:
    """Tell whether a part is the package; as a text it is a mistake."""
    if segment.name != "package":
        if segment.filename is not None:
            raise exceptions.InputError(
                f'Unknown argument: "{segment.name[:100]}". The package is sent as "package".'
            )
        return False
    if segment.filename is None:
        raise exceptions.InputError(
            "Invalid input for field/attribute package. It must be sent as a file, with a file"
            " name."
        )
    return True


def _add(fields: dict[str, Any], name: str, value: bytes) -> None:
    if name in fields:
        raise exceptions.InputError(f'The form field "{name[:100]}" was sent twice.')
    try:
        fields[name] = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise exceptions.InputError(f'The form field "{name[:100]}" is not UTF-8.') from error


def _read_urlencoded(environ: dict[str, Any]) -> dict[str, Any]:
    data = bodies.read(environ, _FIELDS * _FIELD_SIZE)
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, errors="strict",
                          max_num_fields=_FIELDS)
    except ValueError as error:
        raise exceptions.InputError("The form is not valid.") from error
    fields: dict[str, Any] = {}
    for name, value in pairs:
        _add(fields, name, value.encode())
    return fields
