# SPDX-License-Identifier: Apache-2.0
"""Keeps runs apart from each other and from the machine, as far as the kernel allows."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import NamedTuple

from qinling_exec.runtime import landlock, surroundings, system

#: Users of this range have no entry anywhere; one for each worker.
_FIRST_USER = 1_000_000_000


class Isolation(NamedTuple):
    """What is in force for runs.

    user: the uid that runs have, None when they have the server's.
    namespaces: each run has its own /tmp, /var/tmp, /dev/shm, shared memory and process ids.
    hidden: /proc shows a run its own processes only.
    closed: directory in which runs without namespaces reach their own part alone, None when there
        is no such directory.
    signals: runs without namespaces reach none of the others with signals.
    """

    user: int | None
    namespaces: bool
    hidden: bool
    closed: str | None = None
    signals: bool = False

    def report(self) -> dict[str, bool]:
        """Return what /ping tells."""
        return {"user": self.user is not None, "private_tmp": self.namespaces,
                "private_ipc": self.namespaces, "private_pids": self.namespaces,
                "process_limit": self.namespaces or self.user is not None,
                "private_proc": self.hidden,
                "private_files": self.namespaces or self.closed is not None,
                "private_signals": self.namespaces or self.signals}


def probe(server_pid: int, apart: str | None = None) -> Isolation:
    """Find out what is possible, in processes that try it.

    :param apart: directory of this worker alone, outside of what runs may write to.
    """
    user = _FIRST_USER + server_pid if os.geteuid() == 0 else None
    if user is not None and not _succeeds(Isolation(user, False, False)):
        user = None
    for namespaces, hidden in ((True, True), (True, False)):
        isolation = Isolation(user, namespaces, hidden)
        if _succeeds(isolation):
            return isolation
    for closed in (_to_close(apart), None):
        isolation = Isolation(user, False, False, closed, landlock.keeps_signals())
        if _succeeds(isolation):
            return isolation
    return Isolation(user, False, False)


def _to_close(apart: str | None) -> str | None:
    """Return the directory, if it can be closed and /tmp and the like need not be with it."""
    if apart is None or surroundings.in_shared([apart]) or not landlock.keeps_files():
        return None
    return os.path.realpath(apart)


def _succeeds(isolation: Isolation) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            become(isolation.user, [])
            os.listdir(os.path.dirname(os.__file__))
            if isolation.namespaces:
                surroundings.of_zygote(os.path.dirname(__file__), 1 << 20)
                system.own_users(pids=True)
                if os.fork():
                    os._exit(os.WEXITSTATUS(os.wait()[1]))
                if isolation.hidden:
                    system.mount_proc()
                own = surroundings.Surroundings(True, "", 1 << 20)
                for _ in range(2):
                    own.renew()
                    open("/tmp/trace", "w").close()
                system.drop_capabilities()
            elif isolation.closed or isolation.signals:
                system.forbid_new_privileges()
                here = os.path.dirname(__file__)
                landlock.restrict(isolation.closed, here, here, isolation.signals)
                os.listdir(os.path.dirname(os.__file__))
                open("/dev/null", "w").close()
                if isolation.closed:
                    with contextlib.suppress(PermissionError):
                        os.listdir(isolation.closed)
                        os._exit(1)
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def become(user: int | None, needed: list[str]) -> None:
    """Change from root to a user without any rights.

    Where Python or the package lie in a home that others can't enter, an otherwise empty
    copy of that home is put over it for this process alone.

    :param needed: directories that must stay readable, besides Python's own.
    """
    if user is None:
        return
    _open_ways([*surroundings.PYTHON, *needed])
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _open_ways(paths: list[str]) -> None:
    blocked: dict[str, list[str]] = {}
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
    system.private_mounts()
    for parent, below in blocked.items():
        handles = {path: os.open(path, os.O_PATH) for path in below}
        system.mount_private_tmpfs(parent, 1 << 20, "755")
        for path in sorted(below):
            if path != parent and not os.path.isdir(path):
                os.makedirs(path, 0o755, exist_ok=True)
                system.bind(f"/proc/self/fd/{handles[path]}", path)
        for handle in handles.values():
            os.close(handle)


def confine(isolation: Isolation, limits: dict[str, int], memory: int, room: int,
            own: str, code: str) -> None:
    """Set the limits of this process, a keeper, and of what it forks, for good.

    :param own: directory of this keeper.
    :param code: directory of the package.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits["open_files"])
    _limit(resource.RLIMIT_FSIZE, limits["file_size"])
    if isolation.namespaces:  # this run's processes and its keeper are counted
        _limit(resource.RLIMIT_NPROC, limits["processes"] + 1)
    elif isolation.user is not None:  # all processes of this worker are counted
        _limit(resource.RLIMIT_NPROC, (limits["processes"] + 2) * (room + 1))
    system.forbid_new_privileges()
    system.set_dumpable(False)
    if isolation.closed or isolation.signals:
        landlock.restrict(isolation.closed, own, code, isolation.signals)
    _limit(resource.RLIMIT_AS, system.virtual_size() + memory)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
