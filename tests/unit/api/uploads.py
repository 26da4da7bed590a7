# SPDX-License-Identifier: Apache-2.0
"""Makes forms, and looks at what comes of them."""

from __future__ import annotations

import random

from qinling_exec.api.forms import Form
from qinling_exec.catalogue.packages import FileStore
from tests.unit.api.wsgi import Reply

LIMIT = 300_000
MULTIPART = "multipart/form-data; boundary=XX"
URLENCODED = "application/x-www-form-urlencoded"
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked"}


class Controller:
    """Looks at the form as a controller does, and keeps the package when told so."""

    def __init__(self, store: FileStore) -> None:
        self.store = store
        self.form: Form | None = None
        self.package: bytes | None = None
        self.keeps = False
        self.error: Exception | None = None

    def __call__(self, environ, start):
        self.form = environ.get("qinling_exec.form")
        if self.form is not None and self.form.package is not None:
            self.package = self.form.package.read().read()
            if self.keeps:
                self.store.keep(self.form.package)
        if self.error is not None:
            raise self.error
        if self.form is None or environ["CONTENT_TYPE"] != "application/json":
            assert environ["wsgi.input"].read() == b""
        start("201 Created", [("Content-Type", "application/json")])
        return [b"{}"]


def field(name: str, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (
        name.encode(), data)


def package(data: bytes, name: str = "package", file_name: str = "a.zip") -> bytes:
    return (b'--XX\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n'
            b"Content-Type: application/zip\r\n\r\n%s\r\n" % (
                name.encode(), file_name.encode(), data))


END = b"--XX--\r\n"
ZIP = random.Random(1).randbytes(LIMIT)


def files(tmp_path) -> list[str]:
    return [path.name for path in tmp_path.rglob("*") if path.is_file()]


def refused(reply: Reply, controller: Controller, tmp_path, code: int = 400) -> str:
    """Return the text of a refusal in bare shape; nothing came through and nothing is left."""
    assert reply.code == code, reply
    assert controller.form is None
    assert files(tmp_path) == []
    assert set(reply.json) == {"faultstring"}
    return reply.text
