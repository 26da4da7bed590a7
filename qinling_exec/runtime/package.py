# SPDX-License-Identifier: Apache-2.0
"""Function packages: what a zip must be to be accepted, and how it is unpacked.

Standard library only: the service checks packages when they come in, workers check them again.
"""

import io
import os
import shutil
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import BinaryIO

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_LOCAL = struct.Struct("<4s5H3L2H")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 64 * 1024
#: A small file may shrink more than the ratio: what counts is what it unpacks to.
_RATIO_FREE = 1024 * 1024


class PackageRefused(Exception):
    """The package can't be accepted; the text says why, for its author."""


@dataclass(frozen=True)
class Limits:
    """What a package may be.

    size: bytes of the zip. unpacked_size: bytes of all files. entries: files and folders.
    ratio: how many times its packed size a file may have.
    """

    size: int = 51 * 1024 * 1024
    unpacked_size: int = 512 * 1024 * 1024
    entries: int = 10000
    ratio: int = 200


def check(file: BinaryIO, limits: Limits) -> None:
    """Refuse what is not an acceptable package, without unpacking it.

    :raises PackageRefused: with the reason.
    """
    _check_directory(file, limits)
    try:
        with zipfile.ZipFile(file) as package:
            _check_entries(file, package.infolist(), limits)
    except (zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError,
            OverflowError, UnicodeError) as error:
        raise PackageRefused("Package is not a valid ZIP package.") from error


def unpack(file: BinaryIO, directory: str, limits: Limits) -> None:
    """Unpack a package into a new directory; nothing is left when it is refused.

    :raises PackageRefused: with the reason.
    """
    check(file, limits)
    os.mkdir(directory, 0o755)
    try:
        with zipfile.ZipFile(file) as package:
            left = limits.unpacked_size
            for entry in package.infolist():
                left -= _extract(package, entry, directory, left)
    except (zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError,
            zlib.error) as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise PackageRefused("Package is damaged: %s." % error) from error
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _check_directory(file: BinaryIO, limits: Limits) -> None:
    """Look at the end of the file for how many entries there are, before reading them all."""
    size = file.seek(0, io.SEEK_END)
    if size > limits.size:
        raise PackageRefused("A package may have %d bytes at the most." % limits.size)
    tail_size = min(size, _END.size + 65535)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) - place < _END.size:
        raise PackageRefused("Package is not a valid ZIP package.")
    end = _END.unpack_from(tail, place)
    if 0xFFFF in end[1:5] or 0xFFFFFFFF in end[5:7]:
        raise PackageRefused("Package is in ZIP64 format, which no package of an allowed size"
                             " needs.")
    if end[4] > limits.entries:
        raise PackageRefused("A package may have %d files and folders at the most."
                             % limits.entries)
    if end[5] > end[4] * 1024 + 65536:
        raise PackageRefused("The directory of the package is too large.")
    if end[5] + end[6] + _END.size + end[7] != size:
        raise PackageRefused("Package is not a valid ZIP package: there is something before or"
                             " behind it.")


def _check_entries(file: BinaryIO, entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    if len(entries) > limits.entries:
        raise PackageRefused("A package may have %d files and folders at the most."
                             % limits.entries)
    kinds: dict[str, bool] = {}
    total = 0
    for entry in entries:
        _check_entry(entry, limits)
        name = entry.filename.rstrip("/")
        if name in kinds:
            raise PackageRefused("The package has two entries named %r." % entry.filename[:100])
        kinds[name] = entry.is_dir()
        total += entry.file_size
    if total > limits.unpacked_size:
        raise PackageRefused("A package may have %d bytes at the most when unpacked."
                             % limits.unpacked_size)
    _check_parents(kinds)
    _check_overlap(file, entries)


def _check_entry(entry: zipfile.ZipInfo, limits: Limits) -> None:
    shown = entry.filename[:100]
    parts = entry.filename.rstrip("/").split("/")
    if (not entry.filename or entry.filename.startswith("/") or "\\" in entry.filename
            or "\x00" in entry.orig_filename or ":" in parts[0]
            or any(part in ("", ".", "..") for part in parts)
            or len(entry.filename.encode("utf-8", "surrogatepass")) > 1024
            or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts)):
        raise PackageRefused("The package has an entry with a path that is not allowed: %r."
                             % shown)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > entry.is_dir():
        raise PackageRefused("The package has an entry that is no file or folder: %r." % shown)
    if entry.flag_bits & 0x1:
        raise PackageRefused("The package is encrypted.")
    if entry.compress_type not in _METHODS:
        raise PackageRefused("The entry %r is packed with a method that is not supported: use"
                             " deflate." % shown)
    if entry.is_dir() and entry.file_size:
        raise PackageRefused("The folder %r has content of its own." % shown)
    if entry.file_size > max(_RATIO_FREE, entry.compress_size * limits.ratio):
        raise PackageRefused("The entry %r unpacks to more than %d times its size."
                             % (shown, limits.ratio))


def _check_parents(kinds: dict[str, bool]) -> None:
    """Refuse a file that is also the folder of another entry."""
    for name in kinds:
        while "/" in name:
            name = name.rpartition("/")[0]
            if kinds.get(name) is False:
                raise PackageRefused("The package has a file and a folder named %r." % name[:100])


def _check_overlap(file: BinaryIO, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that share their bytes: that is how bombs are made, not packages."""
    spans: list[tuple[int, int]] = []
    for entry in entries:
        file.seek(entry.header_offset)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size:
            raise PackageRefused("Package is not a valid ZIP package.")
        fields = _LOCAL.unpack(head)
        begin = entry.header_offset
        spans.append((begin, begin + _LOCAL.size + fields[9] + fields[10] + entry.compress_size))
    spans.sort()
    for (_, end), (begin, _) in zip(spans, spans[1:]):
        if begin < end:
            raise PackageRefused("The package has entries that overlap.")


def _extract(package: zipfile.ZipFile, entry: zipfile.ZipInfo, directory: str,
             left: int) -> int:
    """Write one entry; return how many bytes it has."""
    path = os.path.join(directory, *entry.filename.rstrip("/").split("/"))
    if entry.is_dir():
        os.makedirs(path, 0o755, exist_ok=True)
        return 0
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    size = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as target, package.open(entry) as source:
        while True:
            data = source.read(_CHUNK)
            if not data:
                return size
            size += len(data)
            if size > min(left, entry.file_size):
                raise PackageRefused("The entry %r is larger than it says."
                                     % entry.filename[:100])
            target.write(data)
