# SPDX-License-Identifier: Apache-2.0
"""Forms: fields and the package come in whole, or nothing of them stays."""

from __future__ import annotations

import os

import pytest

from qinling_exec.api.forms import FIELDS_SIZE, Form
from tests.unit.api.uploads import (
    CHUNKED,
    END,
    MULTIPART,
    URLENCODED,
    ZIP,
    field,
    files,
    package,
    refused,
)
from tests.unit.api.wsgi import Socket


def test_fields_and_package(send, controller, tmp_path):
    body = (field("name", "größe ✓") + field("description", "") + package(ZIP)
            + field("code", '{"source": "package"}') + field("cpu", "100") + END)
    assert send(body).code == 201
    assert controller.form.fields == {"name": "größe ✓", "description": "", "cpu": "100",
                                      "code": '{"source": "package"}'}
    assert controller.package == ZIP
    assert files(tmp_path) == []


def test_kept_package_stays(send, controller, tmp_path):
    controller.keeps = True
    assert send(package(ZIP) + END).code == 201
    assert len(files(tmp_path)) == 1
    with controller.store.open(files(tmp_path)[0].removesuffix(".zip")) as file:
        assert file.read() == ZIP


def test_package_of_a_failed_operation_goes(send, controller, tmp_path):
    controller.error = RuntimeError("database down")
    assert send(package(ZIP) + END).code == 500
    assert files(tmp_path) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 65536])
def test_in_pieces(send, controller, size):
    """Wherever the network cuts, also in the boundary."""
    data = b"\r\n--X\r\n--XY\r\n" * 50
    body = field("name", "\r\n--X") + package(data) + field("a", "b") + END
    pieces = [body[place:place + size] for place in range(0, len(body), size)]

    class Slow(Socket):
        def read(self, _wanted):
            piece = pieces.pop(0) if pieces else b""
            return piece

    assert send(socket=Slow(b""), **CHUNKED).code == 201
    assert controller.form.fields == {"name": "\r\n--X", "a": "b"}
    assert controller.package == data


def test_what_follows_the_end_is_read_away(send, controller):
    body = package(b"zip") + END + b"epilogue" * 10_000
    socket = Socket(body)
    assert send(socket=socket, length=str(len(body))).code == 201
    assert controller.package == b"zip"
    assert socket.taken == len(body)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_no_package(send, controller, method):
    path = "/v1/functions" if method == "POST" else "/v1/functions/some-id"
    assert send(field("a", "b") + END, method=method, path=path).code == 201
    assert controller.form == Form({"a": "b"}, None)


def test_package_with_an_empty_file_name(send, controller):
    assert send(package(b"", file_name="") + END).code == 201
    assert controller.package == b""


@pytest.mark.parametrize("body", [
    b"", b"--XX", b"--XX\r\n", b"garbage", b"\r\n\r\n", b"--YY\r\n\r\n--YY--", field("a", "b"),
    field("a", "b")[:-4], package(b"zip"), package(b"x" * 200_000), package(b"zip")[:40],
    field("a", "b") + package(b"x" * 100_000)[:-50_000], package(b"zip") + b"--XX-",
    b"--XX\r\nContent-Disposition: attachment; name=a\r\n\r\nb\r\n" + END,
    b"--XX\r\n\r\nb\r\n" + END, b"--XX\nContent-Disposition: form-data; name=a\n\nb\n" + END,
    package(b"zip") + b"--XX\r\nno header\r\n\r\n" + END,
    package(b"zip") + b"--XX\r\nContent-Disposition: form-data; name=" + b"n" * 10_000 + b"\r\n",
    package(b"zip") + b"--XX\r\n" + b"A: b\r\n" * 20 + b"\r\n" + END,
    package(b"zip") + b"--XX\r\nContent-Disposition: form-data; name=a\r\n"
                      b"Content-Length: 100\r\n\r\nb\r\n" + END,
], ids=range(20))
def test_broken_forms(send, controller, tmp_path, body):
    text = refused(send(body), controller, tmp_path)
    assert text.startswith("The form is not valid: ")
    assert text.endswith(".")


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=",
                                  'multipart/form-data; boundary="\n"'])
def test_no_boundary(send, controller, tmp_path, kind):
    refused(send(field("a", "b") + END, kind=kind), controller, tmp_path)


@pytest.mark.parametrize("fails", [None, ConnectionResetError("gone"), ValueError("bad chunk"),
                                   TimeoutError("timed out")])
@pytest.mark.parametrize("chunked", [True, False])
def test_upload_that_stops_half_way(send, controller, tmp_path, fails, chunked):
    sent = Socket(field("a", "b") + package(ZIP)[:200_000], fails, chunked=True)
    options = CHUNKED if chunked else {"length": "290000"}
    refused(send(socket=sent, **options), controller, tmp_path)


def test_package_without_a_file_name(send, controller, tmp_path):
    text = refused(send(field("name", "f") + field("package", b"PK\3\4") + END), controller,
                   tmp_path)
    assert text.startswith("Invalid input for field/attribute package. ")


def test_two_packages(send, controller, tmp_path):
    assert refused(send(package(b"a") + package(b"b") + END), controller, tmp_path) == (
        "Only one package can be sent.")


def test_file_of_another_name(send, controller, tmp_path):
    assert '"zip"' in refused(send(package(b"a") + package(b"b", "zip") + END), controller,
                              tmp_path)


@pytest.mark.parametrize(("value", "word"), [(b"\xff", "UTF-8"), (b"\xed\xa0\x80", "UTF-8"),
                                             (b"a\0b", "NUL")])
def test_texts_that_are_none(send, controller, tmp_path, value, word):
    assert word in refused(send(package(b"zip") + field("name", value) + END), controller,
                           tmp_path)
    quoted = "".join(f"%{byte:02x}" for byte in value)
    assert word in refused(send(f"name={quoted}".encode(), kind=URLENCODED), controller, tmp_path)


def test_field_twice(send, controller, tmp_path):
    assert "twice" in refused(send(package(b"z") + field("a", "1") + field("a", "2") + END),
                              controller, tmp_path)
    assert "twice" in refused(send(b"a=1&a=2", kind=URLENCODED), controller, tmp_path)


def test_urlencoded(send, controller):
    assert send(b"name=a+b%20%C3%9F&description=&code=%7B%7D", kind=URLENCODED).code == 201
    assert controller.form == Form({"name": "a b ß", "description": "", "code": "{}"}, None)


@pytest.mark.parametrize("body", [b"a=\xff", b"a", b"=", b"%zz=1", b"a=1&&", b"a=1;b=2"])
def test_odd_urlencoded(send, body):
    assert send(body, kind=URLENCODED).code in (201, 400)


def test_urlencoded_package(send, controller):
    """There is no file in such a form: the operation says what is missing."""
    assert send(b"package=PK", kind=URLENCODED).code == 201
    assert controller.form == Form({"package": "PK"}, None)


def test_urlencoded_flood(send, controller, tmp_path):
    body = b"a=" + b"x" * FIELDS_SIZE
    assert refused(send(body, kind=URLENCODED), controller, tmp_path, 413)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"name": "x", "cpu": 100, "code": {"a": null}}'])
def test_json(send, controller, body):
    assert send(body, kind="application/json").code == 201
    assert controller.form.package is None
    assert controller.form.fields == ({} if len(body) < 3 else
                                      {"name": "x", "cpu": 100, "code": {"a": None}})


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1/executions"), ("POST", "/v1/functions/x/versions"), ("PUT", "/v1/runtimes/x"),
    ("GET", "/v1/functions"), ("DELETE", "/v1/functions/x"), ("POST", "/v1/functionsx"),
])
@pytest.mark.parametrize("kind", [MULTIPART, URLENCODED])
def test_forms_elsewhere(send, controller, tmp_path, method, path, kind):
    socket = Socket(ZIP)
    reply = send(method=method, path=path, kind=kind, socket=socket, length=str(len(ZIP)))
    assert reply.code == 415
    assert reply.text == f"Unknown mimetype: {kind.partition(';')[0]}"
    assert controller.form is None
    assert socket.taken == len(ZIP)


def test_full_disk(send, controller, tmp_path, monkeypatch):
    write = os.fdopen

    def full(*arguments):
        file = write(*arguments)

        class Full:
            def __getattr__(self, name):
                return getattr(file, name)

            def write(self, _data):
                raise OSError(28, "No space left on device")

        return Full()

    monkeypatch.setattr(os, "fdopen", full)
    reply = send(package(ZIP) + END)
    assert reply.code == 507
    assert "storage" in reply.text
    assert files(tmp_path) == []
    assert controller.form is None
