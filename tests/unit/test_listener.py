# SPDX-License-Identifier: Apache-2.0
"""Chunked bodies as the embedded service reads them."""

from __future__ import annotations

import io

import pytest

from qinling_exec.cmd.listener import Chunks


def read(data: bytes, size: int = 7) -> bytes:
    chunks, found = Chunks(io.BytesIO(data)), b""
    while piece := chunks.read(size):
        assert len(piece) <= size
        found += piece
    assert chunks.ended
    return found


@pytest.mark.parametrize("data", [
    b"3\r\nabc\r\n8\r\ndefghijk\r\n0\r\n\r\n", b"0B\r\nabcdefghijk\r\n000\r\n\r\n",
    b"b;name=value\r\nabcdefghijk\r\n0;x\r\nTrailer: x\r\n\r\n",
])
def test_chunks(data):
    assert read(data) == b"abcdefghijk"
    assert read(data, 1) == b"abcdefghijk"


def test_nothing_behind_the_body_is_read():
    stream = io.BytesIO(b"1\r\na\r\n0\r\n\r\nGET /")
    chunks = Chunks(stream)
    assert [chunks.read(100), chunks.read(100), chunks.read(100)] == [b"a", b"", b""]
    assert stream.read() == b"GET /"


def test_a_chunk_is_never_read_whole():
    """Its size may be anything: memory would be what a client asks for."""

    class Endless(io.BytesIO):
        def read(self, size=-1):
            assert 0 <= size <= 65536
            return b"x" * size

    chunks = Chunks(Endless(b"ffffffffffffff\r\n"))
    assert len(chunks.read(1 << 40)) == 65536


@pytest.mark.parametrize("data", [
    b"", b"\r\n", b"zz\r\n", b"-5\r\n", b"+5\r\nabcde\r\n", b"0x1\r\na\r\n", b"1_0\r\n", b"3\nabc",
    b"3\r\nabcdef", b"3\r\nab", b"11111111111111111\r\n", b"3\r\nabc\r\n", b"1" * 5000,
    b"0\r\n" + b"a: b\r\n" * 200,
])
def test_broken_chunks(data):
    with pytest.raises(ValueError):
        read(data)
