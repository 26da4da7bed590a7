# SPDX-License-Identifier: Apache-2.0
"""Looks at the bytes of a zip file for what the standard library's reader does not mind."""

import io
import struct
import zipfile
from typing import BinaryIO

NOT_A_ZIP = "Package is not a valid ZIP package"
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_SIZE = 20
#: A record of the directory: its signature, and the lengths of name, extra data and comment.
_RECORD = struct.Struct("<4s24x3H12x")
_RECORD_SIGNATURE = b"PK\x01\x02"
_LONGEST_DESCRIPTION = 8192
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_SIGNATURE = b"PK\x03\x04"


class PackageRefused(Exception):
    """The package can't be accepted; the text says why, for its author."""


def check_directory(file: BinaryIO, most: int) -> int:
    """Count the entries before they are all read into memory.

    :param most: entries that there may be.
    :returns: where the directory begins, which is behind the last entry.
    :raises PackageRefused: it is no zip file, or has too many entries.
    """
    size = file.seek(0, io.SEEK_END)
    tail_size = min(size, _END.size + 65535 + _ZIP64_LOCATOR_SIZE)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) - place < _END.size:
        raise _not_a_zip()
    end = _END.unpack_from(tail, place)
    # The reader prefers what a ZIP64 record says to what is counted here: none may be there.
    if (0xFFFF in end[1:5] or 0xFFFFFFFF in end[5:7]
            or tail[:place][-_ZIP64_LOCATOR_SIZE:].startswith(_ZIP64_LOCATOR)):
        raise PackageRefused("Package is in ZIP64 format, which no package of an allowed size"
                             " needs.")
    if end[4] > most:
        raise too_many(most)
    if place + _END.size + end[7] != tail_size or end[5] + end[6] + tail_size - place != size:
        raise PackageRefused(f"{NOT_A_ZIP}: there is something before or behind it.")
    _count(file, end[6], end[5], most)
    return int(end[6])


def _count(file: BinaryIO, begin: int, size: int, most: int) -> None:
    """Walk over the directory: the number of entries at its end may be a lie."""
    file.seek(begin)
    entries = 0
    while size > 0:
        head = file.read(_RECORD.size)
        if len(head) < _RECORD.size or not head.startswith(_RECORD_SIGNATURE):
            raise _not_a_zip()
        entries += 1
        if entries > most:
            raise too_many(most)
        description = sum(_RECORD.unpack(head)[1:])
        if description > _LONGEST_DESCRIPTION:
            raise PackageRefused("The package has an entry with a description that is too long.")
        file.seek(description, io.SEEK_CUR)
        size -= _RECORD.size + description
    if size < 0:
        raise _not_a_zip()


def check_overlap(file: BinaryIO, entries: list[zipfile.ZipInfo], begin: int) -> None:
    """Refuse entries that share their bytes: that is how bombs are made, not packages.

    :param begin: where the directory begins.
    """
    spans = [(begin, begin)]
    for entry in entries:
        first = entry.header_offset
        if first > begin:
            raise _not_a_zip()
        file.seek(first)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(_LOCAL_SIGNATURE):
            raise _not_a_zip()
        fields = _LOCAL.unpack(head)
        spans.append((first, first + _LOCAL.size + fields[9] + fields[10] + entry.compress_size))
    spans.sort()
    last = 0
    for first, end in spans:
        if first < last:
            raise PackageRefused("The package has entries that overlap.")
        last = end


def too_many(most: int) -> PackageRefused:
    """Return the refusal of a package with too many entries."""
    return PackageRefused(f"A package may have {most} files and folders at the most.")


def _not_a_zip() -> PackageRefused:
    return PackageRefused(f"{NOT_A_ZIP}.")
