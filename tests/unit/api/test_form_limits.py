# SPDX-License-Identifier: Apache-2.0
"""Forms that are too large."""

from __future__ import annotations

from qinling_exec.api.forms import FIELDS_SIZE
from tests.unit.api.uploads import (
    CHUNKED,
    END,
    LIMIT,
    URLENCODED,
    ZIP,
    field,
    package,
    refused,
)
from tests.unit.api.wsgi import Socket


def test_package_at_its_limit_and_one_byte_over(send, controller, tmp_path):
    assert send(package(ZIP) + END).code == 201
    controller.form = None
    text = refused(send(package(ZIP + b"x") + END), controller, tmp_path, 413)
    assert text == f"A package may have {LIMIT} bytes at the most."


def test_far_too_much_is_not_read(send, controller, tmp_path):
    socket = Socket(package(ZIP))
    reply = send(socket=socket, length=str(10**13))
    assert reply.code == 413
    assert controller.form is None
    assert socket.taken == 0


def test_chunked_flood(send, controller, tmp_path):
    def flood():
        yield package(b"")[:-2]
        while True:
            assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 2 * LIMIT
            yield b"x" * 50_000

    socket = Socket(flood(), chunked=True)
    refused(send(socket=socket, **CHUNKED), controller, tmp_path, 413)
    assert socket.taken < 2 * (LIMIT + FIELDS_SIZE)


def test_text_flood_in_a_field(send, controller, tmp_path):
    text = refused(send(package(b"zip") + field("name", b"x" * 70_000) + END), controller,
                   tmp_path)
    assert text == 'The form field "name" may have 65536 bytes at the most.'


def test_too_many_fields(send, controller, tmp_path):
    many = b"".join(field(f"f{number}", "x") for number in range(40))
    refused(send(package(b"zip") + many + END), controller, tmp_path)
    refused(send("&".join(f"f{number}=x" for number in range(40)).encode(), kind=URLENCODED),
            controller, tmp_path)
