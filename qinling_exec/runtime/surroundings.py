# SPDX-License-Identifier: Apache-2.0
"""The file systems that a run sees: what is private to it, and what is shown in there."""

from __future__ import annotations

import contextlib
import os
import sys

from qinling_exec.runtime import system

#: Directories that everybody may write to.
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")
_CODE = "/tmp/function"
_OWN = "/tmp/run"
#: Without these directories neither Python works nor one that a run starts.
PYTHON = [sys.base_prefix, sys.prefix, *filter(os.path.isdir, sys.path)]


def in_shared(paths: list[str]) -> list[str]:
    """Return those that are in shared directories, by any of their names, each tree once."""
    found: list[str] = []
    for path in sorted({name(path) for path in paths
                        for name in (os.path.abspath, os.path.realpath)}):
        if path.startswith(tuple(f"{parent}/" for parent in _SHARED)) and not any(
                f"{path}/".startswith(f"{tree}/") for tree in found):
            found.append(path)
    return found


#: Found here, before a package can change where modules come from.
_SHOWN = in_shared(PYTHON)


def _cover(code: str, size: int, read_only: bool = False) -> list[str]:
    """Lay empty file systems over the shared directories; show the package in the first.

    A Python that lies in one of them is shown too, where it was.

    :returns: the directories.
    """
    covered = [path for path in _SHARED
               if path == "/tmp" or (os.path.isdir(path) and not os.path.islink(path))]
    shown = {_CODE: os.open(code, os.O_PATH),
             **{path: os.open(path, os.O_PATH) for path in _SHOWN}}
    for path in covered:
        system.mount_private_tmpfs(path, size)
    for path, handle in shown.items():
        os.makedirs(path, 0o755, exist_ok=True)
        system.bind(f"/proc/self/fd/{handle}", path, read_only)
        os.close(handle)
    return covered


def of_zygote(code: str, size: int) -> str:
    """Give the process that imports the package namespaces of its own.

    :returns: where the package is now.
    """
    system.own_users()
    system.private_mounts()
    _cover(code, size, read_only=True)
    system.drop_capabilities()
    return _CODE


class Surroundings:
    """What a keeper makes anew for each of its runs: its directory, and all that is private.

    :param private: each run has file systems and shared memory of its own.
    :param home: directory of the keeper when not, in which to make them.
    :param size: bytes that each file system of a run may have.
    """

    def __init__(self, private: bool, home: str, size: int) -> None:
        self._private = private
        self._home = home
        self._own = _OWN if private else os.path.join(home, "run")
        if not private:
            os.mkdir(home, 0o700)
        self._made = self._marks()
        self._size = size
        self._covered: list[str] = []
        self._fresh: list[object] = []
        os.environ["HOME"] = os.environ["TMPDIR"] = self._own

    def renew(self) -> None:
        """Make them new, and the run's directory the working directory."""
        if self._private:
            system.own_ipc()
            if self._fresh and self._state() == self._fresh:
                return  # the last run has left no trace, as most do
            for path in self._covered:
                system.unmount(path)
            self._covered = _cover(_CODE, self._size)
        os.makedirs(self._own, 0o700)
        os.chdir(self._own)
        if self._private and not _SHOWN:  # else there are more directories than are looked at
            self._fresh = self._state()

    @property
    def empty(self) -> bool:
        """True when a run left no file that :meth:`remove` would remove."""
        try:
            return self._private or (os.listdir(self._home) == [os.path.basename(self._own)]
                                     and not os.listdir(self._own))
        except OSError:  # the run may have done anything to it
            return False

    @property
    def spoiled(self) -> bool:
        """True when a run left a mark on the keeper's directory, which later runs would find."""
        return self._marks() != self._made

    def remove(self) -> None:
        """Remove what a run left, as far as it takes room."""
        if not self._private:
            os.chdir("/")
            with contextlib.suppress(OSError):  # the run may have done anything to it
                os.chmod(self._home, 0o700)
                for name in os.listdir(self._home):
                    remove(os.path.join(self._home, name))

    def _marks(self) -> list[object]:
        """Return what is to be seen at the keeper's directory itself, if there is one."""
        if self._private:
            return []
        try:
            what = os.lstat(self._home)
            return [what.st_ino, what.st_mode, what.st_uid, what.st_gid, _attributes(self._home)]
        except OSError as error:
            return [error.errno]

    def _state(self) -> list[object]:
        """Return all that a run could change without writing to another file system.

        Whatever is in a directory takes an inode. The time of reading is not kept by these file
        systems, and that of a change may be the same as before within a tick of the clock.
        """
        found: list[object] = []
        for path in (*self._covered, self._own):
            try:
                what = os.lstat(path)
                found.append((what.st_dev, what.st_ino, what.st_mode, what.st_uid, what.st_gid,
                              what.st_nlink, what.st_size, what.st_mtime_ns, what.st_ctime_ns,
                              os.statvfs(path).f_ffree,
                              _attributes(path)))
            except OSError as error:
                found.append(error.errno)
        return found


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:  # file systems need not have any
        return []


def remove(top: str) -> None:
    """Remove a directory, whatever modes are in it, or anything else."""
    import shutil  # only without namespaces: every fork pays for what is loaded

    if os.path.islink(top) or not os.path.isdir(top):
        with contextlib.suppress(OSError):
            os.unlink(top)
        return
    shutil.rmtree(top, ignore_errors=True)
    if os.path.lexists(top):
        for path, _, _ in os.walk(top):
            with contextlib.suppress(OSError):
                os.chmod(path, 0o700)
                for entry in os.scandir(path):
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry.path, 0o700)
        shutil.rmtree(top, ignore_errors=True)
