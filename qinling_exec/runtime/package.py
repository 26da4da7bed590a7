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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from qinling_exec.runtime import archive
from qinling_exec.runtime.archive import PackageRefused

__all__ = ["Limits", "PackageRefused", "check", "unpack"]

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: Flags of an entry: encrypted, a patch to another file, strong encryption, masked directory.
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_PATCH = 0x20
_CHUNK = 64 * 1024
#: What the zip reader raises when a file is not what it seems.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, OverflowError,
            NotImplementedError, RuntimeError)
#: A small file may shrink more than the ratio: what counts is what it unpacks to.
_RATIO_FREE = 1024 * 1024


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
    """Refuse what is not an acceptable package; its contents are read, and written nowhere.

    :raises PackageRefused: with the reason.
    """
    with _open(file, limits) as package:
        for _, parts in _contents(package, limits):
            for _ in parts:
                pass


def unpack(file: BinaryIO, directory: str, limits: Limits) -> None:
    """Unpack a package into a new directory; nothing is left when it is refused.

    :raises PackageRefused: with the reason.
    """
    directory = directory.rstrip("/")
    with _open(file, limits) as package:
        os.mkdir(directory)
        os.chmod(directory, 0o755)
        try:
            _write(package, directory, limits)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise


def _open(file: BinaryIO, limits: Limits) -> zipfile.ZipFile:
    """Return the zip when its directory is acceptable; entries are not read yet."""
    if file.seek(0, io.SEEK_END) > limits.size:
        raise PackageRefused(f"A package may have {limits.size} bytes at the most.")
    begin = archive.check_directory(file, limits.entries)
    try:
        package = zipfile.ZipFile(file)
        _check_entries(file, package.infolist(), begin, limits)
    except _DAMAGED as error:
        raise PackageRefused(f"{archive.NOT_A_ZIP}.") from error
    return package


def _check_entries(file: BinaryIO, entries: list[zipfile.ZipInfo], begin: int,
                   limits: Limits) -> None:
    """Check all entries one by one, and what they are together."""
    kinds: dict[str, bool] = {}
    total = 0
    for entry in entries:
        _check_entry(entry, limits)
        name = "/".join(_parts(entry))
        if name in kinds and not (entry.is_dir() and kinds[name]):
            raise PackageRefused(f"The package has two entries named {entry.filename[:100]!r}.")
        if not name and not entry.is_dir():
            raise _bad_path(entry)
        kinds[name] = entry.is_dir()
        total += entry.file_size
    if all(kinds.values()):
        raise PackageRefused("The package has no files in it.")
    if total > limits.unpacked_size:
        raise PackageRefused(f"A package may have {limits.unpacked_size} bytes at the most when"
                             " unpacked.")
    _check_parents(kinds, limits)
    archive.check_overlap(file, entries, begin)


def _check_entry(entry: zipfile.ZipInfo, limits: Limits) -> None:
    shown = entry.filename[:100]
    parts = _parts(entry)
    if (entry.filename.startswith("/") or "\\" in entry.filename
            or "\x00" in entry.orig_filename or any(":" in part for part in parts[:1])
            or any(part in ("", "..") for part in parts)
            or len(entry.filename.encode("utf-8", "surrogatepass")) > 1024
            or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts)):
        raise _bad_path(entry)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > entry.is_dir():
        raise PackageRefused(f"The package has an entry that is no file or folder: {shown!r}.")
    if entry.flag_bits & _ENCRYPTED:
        raise PackageRefused("The package is encrypted.")
    if entry.compress_type not in _METHODS or entry.flag_bits & _PATCH:
        raise PackageRefused(f"The entry {shown!r} is packed with a method that is not supported:"
                             " use deflate.")
    if entry.is_dir() and entry.file_size:
        raise PackageRefused(f"The folder {shown!r} has content of its own.")
    if entry.file_size > max(_RATIO_FREE, entry.compress_size * limits.ratio):
        raise PackageRefused(f"The entry {shown!r} unpacks to more than {limits.ratio} times its"
                             " size.")


def _parts(entry: zipfile.ZipInfo) -> list[str]:
    """Return an entry's path; some tools begin each with a dot."""
    return [part for part in entry.filename.rstrip("/").split("/") if part != "."]


def _check_parents(kinds: dict[str, bool], limits: Limits) -> None:
    """Refuse a file that is also the folder of another entry, and too many folders."""
    folders = {name for name, is_folder in kinds.items() if is_folder}
    files = len(kinds) - len(folders)
    for name in kinds:
        while "/" in name:
            name = name.rpartition("/")[0]
            if kinds.get(name) is False:
                raise PackageRefused(f"The package has a file and a folder named {name[:100]!r}.")
            if name in folders:
                break  # its own parents have been seen, or will be
            folders.add(name)
            if files + len(folders) > limits.entries:
                raise archive.too_many(limits.entries)


def _contents(package: zipfile.ZipFile,
              limits: Limits) -> Iterator[tuple[zipfile.ZipInfo, Iterator[bytes]]]:
    """Yield each entry with its content, which must be read before the next one."""
    left = limits.unpacked_size
    for entry in package.infolist():
        yield entry, iter(()) if entry.is_dir() else _content(package, entry, left)
        left -= entry.file_size


def _content(package: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> Iterator[bytes]:
    """Yield an entry's content in pieces; what its header says of it is not trusted."""
    size = 0
    try:
        with package.open(entry) as source:
            while True:
                data = source.read(_CHUNK)
                size += len(data)
                if not data:
                    break
                if size > min(left, entry.file_size):
                    raise _damaged(entry)
                yield data
    except _DAMAGED as error:
        raise _damaged(entry) from error
    if size != entry.file_size:
        raise _damaged(entry)


def _write(package: zipfile.ZipFile, directory: str, limits: Limits) -> None:
    """Write all entries below a directory; everybody may read them, their owner write them."""
    made = {directory}
    for entry, parts in _contents(package, limits):
        path = "/".join((directory, *_parts(entry)))
        if entry.is_dir():
            _make_folders(path, made)
            continue
        _make_folders(os.path.dirname(path), made)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as target:
            for data in parts:
                target.write(data)
            # The umask is the starter's; runs may belong to another user.
            os.fchmod(target.fileno(), 0o755 if entry.external_attr >> 16 & 0o111 else 0o644)


def _make_folders(path: str, made: set[str]) -> None:
    """Make a folder and those above it; ``made`` has those that are there."""
    missing = []
    while path not in made:
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        made.add(folder)


def _bad_path(entry: zipfile.ZipInfo) -> PackageRefused:
    return PackageRefused(f"The package has an entry with a path that is not allowed:"
                          f" {entry.filename[:100]!r}.")


def _damaged(entry: zipfile.ZipInfo) -> PackageRefused:
    return PackageRefused(f"Package is damaged: the entry {entry.filename[:100]!r} is not what"
                          " its description says.")
