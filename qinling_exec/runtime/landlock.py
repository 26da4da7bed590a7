# SPDX-License-Identifier: Apache-2.0
"""Landlock: a process gives up rights for good, for itself and all that it starts.

Nobody's leave is needed for it, so it is to be had where namespaces are not, as in most pods. It
knows no exceptions from what it allows: a right on a directory is one on all that is below.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1, 2, 4, 8, 1 << 14
#: All that concerns what is in files and directories: the first 15 rights.
_ALL = (1 << 15) - 1
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2
#: The versions that have all of these: before the first a file could still be emptied.
_FOR_FILES, _FOR_SIGNALS = 3, 6


def _version() -> int:
    """Return what the kernel has; 0 when there is nothing, or a seccomp profile forbids it."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


def keeps_files() -> bool:
    """Tell whether the kernel can keep files apart."""
    return _version() >= _FOR_FILES


def keeps_signals() -> bool:
    """Tell whether the kernel can keep signals apart."""
    return _version() >= _FOR_SIGNALS


def restrict(closed: str | None, own: str, code: str, signals: bool) -> None:
    """Restrict this process, which must have forbidden itself new privileges.

    :param closed: directory of which nothing can be reached any more but the next two; neither it
        nor what leads to it can be listed. None: files are left alone.
    :param own: directory in there that stays as it is.
    :param code: another one, which can only be read.
    :param signals: only processes that are restricted with this one can be sent signals, or
        reached on abstract sockets.
    :raises OSError: the kernel does not do it.
    """
    rules = _create(_ALL if closed else 0, _ABSTRACT_SOCKETS | _SIGNALS if signals else 0)
    try:
        if closed:
            for path in _beside(closed):
                with contextlib.suppress(FileNotFoundError):
                    _allow(rules, path, _ALL)
            _allow(rules, own, _ALL)
            _allow(rules, code, _READING)
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _beside(directory: str) -> Iterator[str]:
    """Return all but a directory and what leads there; no links, which would lead anywhere."""
    above = "/"
    for name in directory.strip("/").split("/"):
        with os.scandir(above) as entries:
            for entry in entries:
                if entry.name != name and not entry.is_symlink():
                    yield entry.path
        above = os.path.join(above, name)


def _create(files: int, scopes: int) -> int:
    rights = struct.pack("QQQ", files, 0, scopes)  # none of the network
    return _call(_CREATE_RULESET, rights, ctypes.c_size_t(len(rights)), 0)


def _allow(rules: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _OF_FILES
        _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, handle), 0)
    finally:
        os.close(handle)


def _call(*arguments: object) -> int:
    result = int(_libc.syscall(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"landlock: {os.strerror(number)}")
    return result
