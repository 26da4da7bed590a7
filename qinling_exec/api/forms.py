# SPDX-License-Identifier: Apache-2.0
"""Forms: the fields of a function, and its package as a stream."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import multipart

from qinling_exec import exceptions
from qinling_exec.api import body as bodies
from qinling_exec.api import stream
from qinling_exec.catalogue.packages import Incoming, PackageStore

_TAKES_FORMS = re.compile(r"/v1/functions(/[^/]+)?/?\Z")
_FIELDS = 32
_FIELD_SIZE = 64 * 1024
#: Bytes of a form beside its package.
FIELDS_SIZE = _FIELDS * _FIELD_SIZE


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
        # A field may be in the query too, as Qinling had it.
        for name, value in parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True):
            _add(form.fields, name, value.encode())
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
        limit = self._package_limit + FIELDS_SIZE
        _, options = multipart.parse_options_header(environ["CONTENT_TYPE"])
        parts = _Parts(self._store, self._package_limit)
        try:
            with multipart.PushMultipartParser(options.get("boundary", ""),
                                               max_segment_count=_FIELDS) as parser:
                for data in stream.of(environ, limit).pieces(limit):
                    for event in parser.parse(data):
                        parts.take(event)
        except multipart.MultipartError as error:
            parts.discard()
            raise exceptions.InputError(f"The form is not valid: {error}.") from error
        except BaseException:
            parts.discard()
            raise
        return Form(parts.fields, parts.package)


class _Parts:
    """Collects the parts of a form: texts in memory, the package in the store.

    :param most: bytes of a package.
    """

    def __init__(self, store: PackageStore, most: int) -> None:
        self._store = store
        self._most = most
        self._name = ""
        self._text: bytearray | None = None
        self.fields: dict[str, Any] = {}
        self.package: Incoming | None = None

    def take(self, event: Any) -> None:
        """Take what the parser found: the head of a part, some of its content, or its end."""
        if isinstance(event, multipart.MultipartSegment):
            self._begin(event)
        elif event is None:
            if self._text is not None:
                _add(self.fields, self._name, bytes(self._text))
        elif self._text is not None:
            self._text += event
            if len(self._text) > _FIELD_SIZE:
                raise exceptions.InputError(
                    f'The form field "{self._name[:100]}" may have {_FIELD_SIZE} bytes at the'
                    " most."
                )
        else:
            assert self.package is not None
            if self.package.size + len(event) > self._most:
                raise exceptions.TooLarge(f"A package may have {self._most} bytes at the most.")
            self.package.write(bytes(event))

    def discard(self) -> None:
        """Leave nothing of the package."""
        if self.package is not None:
            self.package.discard()

    def _begin(self, segment: Any) -> None:
        self._name = segment.name
        self._text = None if _is_package(segment) else bytearray()
        if self._text is None:
            if self.package is not None:
                raise exceptions.InputError("Only one package can be sent.")
            self.package = self._store.receive()


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
    if b"\0" in value:
        raise exceptions.InputError(f'The form field "{name[:100]}" has a NUL character.')
    if name in fields:
        raise exceptions.InputError(f'The form field "{name[:100]}" was sent twice.')
    try:
        fields[name] = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise exceptions.InputError(f'The form field "{name[:100]}" is not UTF-8.') from error


def _read_urlencoded(environ: dict[str, Any]) -> dict[str, Any]:
    limit = FIELDS_SIZE
    data = b"".join(stream.of(environ, limit).pieces(limit))
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, errors="strict",
                          max_num_fields=_FIELDS)
    except UnicodeError as error:
        raise exceptions.InputError("The form is not UTF-8.") from error
    except ValueError as error:
        raise exceptions.InputError(
            f"The form is not valid: it may have {_FIELDS} fields at the most."
        ) from error
    fields: dict[str, Any] = {}
    for name, value in pairs:
        _add(fields, name, value.encode())
    return fields
