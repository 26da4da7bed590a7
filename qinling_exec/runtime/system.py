# SPDX-License-Identifier: Apache-2.0
"""What the kernel offers to keep runs apart, through ctypes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import time

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_NOATIME, _MS_NODIRATIME, _MS_BIND, _MS_REC, _MS_PRIVATE = 1024, 2048, 4096, 16384, 1 << 18

_MNT_DETACH = 2
_INT = ctypes.sizeof(ctypes.c_int)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(yes: bool = True) -> None:
    """Be killed when the parent dies, or not any more."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if yes else 0)


def hung_up(peer: socket.socket) -> bool:
    """Tell whether the other side of a connection is closed."""
    try:
        return not peer.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def await_end(process: int) -> None:
    """Wait until the process of a descriptor has ended; close that."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.poll()
    os.close(process)


def forbid_new_privileges() -> None:
    """Take the effect from setuid programs."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(yes: bool) -> None:
    """Open or close this process's memory and environment to others of the same user."""
    _prctl(_PR_SET_DUMPABLE, int(yes))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


#: Of the calling process; made here, so that a run has nothing to make.
_NO_CAPABILITIES = (ctypes.byref(_CapabilityHeader(0x20080522, 0)),
                    ctypes.byref((ctypes.c_uint32 * 6)()))


def drop_capabilities() -> None:
    """Give up every capability."""
    _check(_libc.capset(*_NO_CAPABILITIES), "capset")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount something."""
    _check(_libc.mount(source.encode(), target.encode(), kind.encode() or None,
                       ctypes.c_ulong(flags), options.encode() or None), "mount " + target)


def unmount(target: str) -> None:
    """Take off what is mounted last at a directory, with what is mounted in it."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH), "umount " + target)


def mount_private_tmpfs(target: str, size: int, mode: str = "1777") -> None:
    """Lay an empty file system over a directory; it does not keep who has read what when."""
    mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOATIME,
          f"size={size},nr_inodes=100000,mode={mode}")


def bind(source: str, target: str, read_only: bool = False) -> None:
    """Show a directory at a second place."""
    mount(source, target, "", _MS_BIND | _MS_REC)
    if read_only:
        # What the file system was mounted with may not be taken off in a user namespace.
        kept = os.statvfs(target).f_flag & (_MS_NOEXEC | _MS_NOATIME | _MS_NODIRATIME)
        mount("none", target, "", kept | _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID
              | _MS_NODEV)


def mount_proc() -> None:
    """Show only the processes of this process's own namespace.

    :raises OSError: a part of /proc is hidden here, as in a container.
    """
    mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def own_mounts() -> None:
    """Leave the mounts of others: what is mounted from now on is seen by nobody else."""
    _check(_libc.unshare(_NEWNS), "unshare")


def own_ipc() -> None:
    """Leave the System V memory and POSIX message queues of others."""
    _check(_libc.unshare(_NEWIPC), "unshare")


def private_mounts() -> None:
    """Neither take nor give what is mounted from now on."""
    mount("none", "/", "", _MS_REC | _MS_PRIVATE)


def own_users(pids: bool = False) -> None:
    """Enter user, mount and IPC namespaces of one's own, as the same user.

    :param pids: the next child is the first process of a namespace of its own too.
    :raises OSError: the kernel or a container's seccomp profile forbids it.
    """
    user, group = os.getuid(), os.getgid()
    set_dumpable(True)  # else the maps belong to root
    kinds = _NEWUSER | _NEWNS | _NEWIPC | (_NEWPID if pids else 0)
    _check(_libc.unshare(kinds), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"),
                       ("gid_map", f"{group} {group} 1")):
        with open("/proc/self/" + name, "w") as file:
            file.write(text)


#: The kernel's own list of a process's children; reading it takes no longer the more others run.
_LISTED = os.path.exists("/proc/thread-self/children")


def _parents() -> dict[int, int]:
    """Return the parent of every living process that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The name of the program, in brackets, may hold anything.
                    fields = file.read().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    found[int(name)] = int(fields[1])
    return found


def _children(pids: list[int]) -> list[int]:
    """Return the children of processes; with them, perhaps, some that are dead."""
    if not _LISTED:
        wanted = set(pids)
        return [pid for pid, parent in _parents().items() if parent in wanted]
    found: list[int] = []
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    found += map(int, file.read().split())
    return found


def descendants(root: int) -> list[int]:
    """Return the descendants of a process, nearest first."""
    found: dict[int, None] = {}
    todo = [root]
    while todo:
        todo = [pid for pid in _children(todo) if pid not in found]
        found.update(dict.fromkeys(todo))
    return list(found)


def kill(pid: int) -> None:
    """Kill a process; no error when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def wake_container() -> None:
    """As the first process of a container: let go on what a run may have stopped.

    Runs have the user of all that is in there, and can stop the processes that look after others.
    """
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGCONT)


def kill_namespace() -> None:
    """As the first process of a namespace: kill and reap every other one in it."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            kill(-1)
            time.sleep(0.0002)


def _kill_groups(pids: list[int], spared: set[int | None]) -> None:
    """Kill processes, each with the whole of its process group unless that is spared.

    One that forks and ends again and again is gone before anybody can kill it by its id. A
    group is killed at once: the kernel lets nobody fork out of it meanwhile.
    """
    for pid in pids:
        group = _group(pid)
        if group is not None and group not in spared:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        kill(pid)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def kill_descendants() -> None:
    """Kill and reap everything below this process, whatever it does meanwhile.

    It must adopt orphans: then killing parents only brings their children closer.
    """
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            _kill_groups(descendants(os.getpid()), {os.getpgrp()})
            time.sleep(0.0005)


def kill_strays(known: set[int]) -> None:
    """Kill children of this process that it does not know, with all that is below them."""
    spared = {os.getpgrp(), *map(_group, known)}
    for pid in _children([os.getpid()]):
        if pid not in known:
            _kill_groups([pid, *descendants(pid)], spared)


def receive(source: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """Return a message and its descriptors, which programs that are executed do not get.

    ``socket.recv_fds`` forgets its flags in some versions of Python.
    """
    numbers: list[int] = []
    message, extra, _, _ = source.recvmsg(65536, socket.CMSG_LEN(most * _INT),
                                          socket.MSG_CMSG_CLOEXEC)
    for _, _, data in extra:
        numbers += memoryview(data[: len(data) - len(data) % _INT]).cast("i")
    return message, numbers


def virtual_size() -> int:
    """Return the bytes of address space that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
