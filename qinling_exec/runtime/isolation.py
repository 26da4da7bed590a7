# SPDX-License-Identifier: Apache-2.0
"""Keeps runs apart from each other and from the machine, as far as the kernel allows."""

import os
import resource
import sys
from dataclasses import dataclass
from typing import Dict, List, Optional

from qinling_exec.runtime import system

_PRIVATE = ("/tmp", "/var/tmp", "/dev/shm")
#: Users of this range have no entry anywhere; one for each worker.
_FIRST_USER = 1_000_000_000


@dataclass(frozen=True)
class Isolation:
    """What is in force for runs.

    user: the uid that runs have, None when they have the server's.
    namespaces: runs have a /tmp, /var/tmp, /dev/shm and a count of processes of their own.
    """

    user: Optional[int]
    namespaces: bool

    def report(self) -> Dict[str, bool]:
        """Return what /ping tells."""
        return {"user": self.user is not None, "private_tmp": self.namespaces,
                "process_limit": self.namespaces}


def probe(server_pid: int) -> Isolation:
    """Find out what is possible, in processes that try it."""
    user = _FIRST_USER + server_pid if os.geteuid() == 0 else None
    if user is not None and not _succeeds(user, namespaces=False):
        user = None
    return Isolation(user, _succeeds(user, namespaces=True))


def _succeeds(user: Optional[int], namespaces: bool) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            become(user, [])
            os.listdir(os.path.dirname(os.__file__))
            if namespaces:
                system.own_namespaces()
                for path in _existing():
                    system.mount_private_tmpfs(path, 1 << 20)
                system.drop_capabilities()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def become(user: Optional[int], needed: List[str]) -> None:
    """Change from root to a user without any rights.

    Where Python or the package lie in a home that others can't enter, an otherwise empty
    copy of that home is put over it for this process alone.

    :param needed: directories that must stay readable, besides Python's own.
    """
    if user is None:
        return
    _open_ways([sys.base_prefix, sys.prefix, *filter(os.path.isdir, sys.path), *needed])
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _open_ways(paths: List[str]) -> None:
    blocked: Dict[str, List[str]] = {}
    for path in {os.path.realpath(path) for path in paths}:
        parts = path.split("/")
        for depth in range(2, len(parts) + 1):
            parent = "/".join(parts[:depth])
            if not os.stat(parent).st_mode & 0o001:
                blocked.setdefault(parent, []).append(path)
                break
    if not blocked:
        return
    system.own_mounts()
    for parent, below in blocked.items():
        handles = {path: os.open(path, os.O_PATH) for path in below}
        system.mount_private_tmpfs(parent, 1 << 20, "755")
        for path in sorted(below):
            if path != parent and not os.path.isdir(path):
                os.makedirs(path, 0o755, exist_ok=True)
                system.bind("/proc/self/fd/%d" % handles[path], path)
        for handle in handles.values():
            os.close(handle)


def _existing() -> List[str]:
    return [path for path in _PRIVATE if os.path.isdir(path) and not os.path.islink(path)]


def enter(isolation: Isolation, code: str, scratch: str, scratch_size: int) -> str:
    """Give this process, and what it forks, surroundings of its own.

    :param code: the unpacked package, which stays readable.
    :param scratch: where to make the run's directory when there are no namespaces.
    :returns: the run's directory.
    """
    if not isolation.namespaces:
        os.mkdir(scratch, 0o700)
        return scratch
    system.own_namespaces()
    handle = os.open(code, os.O_PATH)
    for path in _existing():
        system.mount_private_tmpfs(path, scratch_size)
    if not os.path.isdir(code):  # it lies where an empty /tmp is now
        os.makedirs(code, 0o755)
        system.bind("/proc/self/fd/%d" % handle, code)
    os.close(handle)
    own = "/tmp/run"
    os.mkdir(own, 0o700)
    return own


def confine(isolation: Isolation, limits: Dict[str, int], memory: int) -> None:
    """Set the limits of the calling process for good; the last thing before user code."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits["open_files"])
    _limit(resource.RLIMIT_FSIZE, limits["file_size"])
    if isolation.namespaces:  # elsewhere it would count all processes of the user
        _limit(resource.RLIMIT_NPROC, limits["processes"])
        system.drop_capabilities()
    system.forbid_new_privileges()
    system.set_dumpable(False)
    # Last: from here on this process gets no more than the function may use.
    _limit(resource.RLIMIT_AS, system.virtual_size() + memory)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
