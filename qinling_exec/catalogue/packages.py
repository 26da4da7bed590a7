# SPDX-License-Identifier: Apache-2.0
"""Where packages are kept: the contract of a store, and the store of files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from qinling_exec import exceptions

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Seconds without a byte after which what is in ``tmp`` belongs to a process that was killed.
_ABANDONED = 3600


class Incoming(Protocol):
    """A package while it comes in; nothing is left of it unless a store keeps it."""

    size: int

    @property
    def md5(self) -> str:
        """MD5 of what was written, in hex."""

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written, in hex."""

    def write(self, data: bytes) -> None:
        """Add bytes.

        :raises qinling_exec.exceptions.InsufficientStorage: there is no room.
        """

    def read(self) -> BinaryIO:
        """Return what was written, at its beginning."""

    def discard(self) -> None:
        """Remove it, unless it was kept; idempotent."""


class PackageStore(Protocol):
    """A driver of the namespace ``qinling_exec.package_store``, made as ``Driver(directory)``."""

    def __init__(self, directory: str) -> None: ...

    def receive(self) -> Incoming:
        """Begin to take a package in."""

    def keep(self, incoming: Incoming) -> None:
        """Store a package under its hash, whole or not at all; it may be there already.

        :raises qinling_exec.exceptions.InsufficientStorage: there is no room.
        """

    def open(self, sha256: str) -> BinaryIO:
        """Open a stored package.

        :raises qinling_exec.exceptions.NotFound: there is none of this hash.
        """

    def remove(self, sha256: str) -> None:
        """Remove a stored package; no error when it is not there."""


class _IncomingFile:
    """A package in a temporary file of the store's own file system."""

    def __init__(self, directory: pathlib.Path) -> None:
        with _room():
            descriptor, path = tempfile.mkstemp(dir=directory)
        self.path: pathlib.Path | None = pathlib.Path(path)
        self.size = 0
        self._file = os.fdopen(descriptor, "w+b")
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def write(self, data: bytes) -> None:
        with _room():
            self._file.write(data)
        self.size += len(data)
        self._md5.update(data)
        self._sha256.update(data)

    def read(self) -> BinaryIO:
        with _room():
            self._file.flush()
        self._file.seek(0)
        return self._file

    def sync(self) -> None:
        """Bring everything to the disk."""
        with _room():
            self._file.flush()
            os.fsync(self._file.fileno())

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None


class FileStore:
    """Packages as files named by their hash.

    :param directory: is created, for its owner alone; all processes must see the same.
    """

    def __init__(self, directory: str) -> None:
        self._directory = pathlib.Path(directory)
        self._temporary = self._directory / "tmp"
        self._swept = False

    def receive(self) -> _IncomingFile:
        """Begin to take a package in."""
        with _room():
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._temporary.mkdir(mode=0o700, exist_ok=True)
        if not self._swept:
            self._swept = True
            self.sweep_temporary(_ABANDONED)
        return _IncomingFile(self._temporary)

    def keep(self, incoming: Incoming) -> None:
        """Store a package under its hash."""
        assert isinstance(incoming, _IncomingFile) and incoming.path is not None
        incoming.sync()
        path = self._path(incoming.sha256)
        with _room():
            _move(incoming.path, path)
            _sync_directory(path.parent)
            _sync_directory(self._directory)
        incoming.path = None
        incoming.discard()

    def open(self, sha256: str) -> BinaryIO:
        """Open a stored package."""
        try:
            return open(self._path(sha256), "rb")
        except FileNotFoundError as error:
            raise exceptions.NotFound("Package not found.") from error

    def remove(self, sha256: str) -> None:
        """Remove a stored package, and its folder when that is empty."""
        path = self._path(sha256)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def sweep_temporary(self, older_than: float) -> None:
        """Remove what uploads of killed processes left, ``older_than`` seconds ago or more."""
        if not self._temporary.is_dir():
            return
        for path in self._temporary.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()

    def _path(self, sha256: str) -> pathlib.Path:
        if not _SHA256.match(sha256):
            raise exceptions.NotFound("Package not found.")
        return self._directory / sha256[:2] / f"{sha256}.zip"


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """Turn a full disk into an error that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise exceptions.InsufficientStorage() from error
        raise


def _move(source: pathlib.Path, target: pathlib.Path) -> None:
    """Rename into a folder that is made when it is not there."""
    for last in (False, False, True):
        target.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.replace(source, target)
            return
        except FileNotFoundError:  # another process has just removed the empty folder
            if last:
                raise


def _sync_directory(path: pathlib.Path) -> None:
    """Make a rename survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
