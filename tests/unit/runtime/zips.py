# SPDX-License-Identifier: Apache-2.0
"""Zip files byte by byte, so that each may lie wherever it likes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

STORED, DEFLATED = 0, 8


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@dataclass(frozen=True)
class Entry:
    """An entry; what is None is what it should be."""

    name: bytes
    data: bytes = b""
    method: int = DEFLATED
    mode: int = 0o100644
    flags: int = 0
    raw: bytes | None = None
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    local_name: bytes | None = None
    offset: int | None = None
    extra: bytes = b""
    comment: bytes = b""

    @property
    def packed(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return self.data if self.method == STORED else deflate(self.data)

    def numbers(self) -> tuple[int, int, int]:
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        packed = len(self.packed) if self.packed_size is None else self.packed_size
        return crc, packed, len(self.data) if self.size is None else self.size

    def local(self) -> bytes:
        name = self.name if self.local_name is None else self.local_name
        return struct.pack("<4s5H3L2H", b"PK\3\4", 20, self.flags, self.method, 0, 33,
                           *self.numbers(), len(name), 0) + name + self.packed

    def record(self, offset: int) -> bytes:
        return struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 0x314, 20, self.flags, self.method, 0, 33, *self.numbers(),
            len(self.name), len(self.extra), len(self.comment), 0, 0, self.mode << 16,
            offset if self.offset is None else self.offset,
        ) + self.name + self.extra + self.comment


def build(*entries: Entry, count: int | None = None, directory_size: int | None = None,
          directory_offset: int | None = None, before_end: bytes = b"",
          comment: bytes = b"", comment_size: int | None = None) -> bytes:
    """Return a zip file; the named arguments are what its end says."""
    body, directory = b"", b""
    for entry in entries:
        directory += entry.record(len(body))
        body += entry.local()
    number = len(entries) if count is None else count
    return body + directory + before_end + struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, number, number,
        len(directory) if directory_size is None else directory_size,
        len(body) if directory_offset is None else directory_offset,
        len(comment) if comment_size is None else comment_size,
    ) + comment


def as_link(entry: Entry) -> Entry:
    return replace(entry, mode=0o120777)
