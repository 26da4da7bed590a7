# SPDX-License-Identifier: Apache-2.0
"""The function of a worker: its package on disk, the zygote that has it in memory, its slots."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator

from qinling_exec.runtime import package, system
from qinling_exec.runtime.isolation import Isolation
from qinling_exec.runtime.messages import Refused
from qinling_exec.runtime.runs import Run
from qinling_exec.runtime.slots import Slot
from qinling_exec.runtime.spec import Spec

LOG = logging.getLogger("qinling_exec.runtime")
_LOAD_SECONDS = 30.0
#: Runs that are made before they are needed.
_READY = 2
#: Slots that may turn out dead before a run is given up that did not begin in any.
_TRIES = 8


class Function:
    """What a worker runs.

    :param scratch: directory of this worker alone.
    """

    def __init__(self, scratch: str, isolation: Isolation) -> None:
        self.spec: Spec | None = None
        self._scratch = scratch
        self._code = os.path.join(scratch, "code")
        self._runs = os.path.join(scratch, "runs")
        self._isolation = isolation
        self._modes: dict[str, int] = {}
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._loading = asyncio.Lock()
        self._idle: deque[Slot] = deque()
        self._busy: set[Slot] = set()

    def start(self) -> None:
        """Warm up: a zygote that does not know its function yet."""
        system.adopt_orphans()
        os.makedirs(self._runs, 0o700, exist_ok=True)
        if self._isolation.user is not None:
            os.chmod(self._scratch, 0o711)
            os.chown(self._runs, self._isolation.user, self._isolation.user)
        if not self._isolation.namespaces:
            self._modes = {path: stat.S_IMODE(os.stat(path).st_mode)
                           for path in (self._scratch, self._runs)}
        self._spawn()

    async def specialize(self, spec: Spec, data: AsyncIterator[bytes]) -> None:
        """Take a package in, unpack it and import it.

        :raises Refused: the package is not what it should be.
        """
        path = os.path.join(self._scratch, "package.zip")
        try:
            await _receive(data, path, spec)
            with open(path, "rb") as file:
                package.unpack(file, self._code, spec.package)
        except package.PackageRefused as error:
            raise Refused(400, str(error)) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        try:
            await self._load(spec)
        except BaseException:
            shutil.rmtree(self._code, ignore_errors=True)
            raise
        if self._modes:
            self._modes[self._code] = stat.S_IMODE(os.stat(self._code).st_mode)
        self.spec = spec
        for _ in range(min(_READY, spec.room)):
            await self._add_slot()

    async def run(self, run: Run) -> None:
        """Bring a run to its end."""
        for _ in range(_TRIES):
            self._reopen()
            if not self._idle:
                await self._add_slot()
            if self._idle:
                slot = self._idle.popleft()
                self._busy.add(slot)
                try:
                    if await run.run(slot):
                        return
                finally:
                    system.wake_container()
                    self._give_back(slot)
        run.fail("The worker could not start a process for the run.")

    def _reopen(self) -> None:
        """Open directories again that a run may have closed, where it has their owner's user."""
        for path, mode in self._modes.items():
            with contextlib.suppress(OSError):
                if stat.S_IMODE(os.stat(path).st_mode) != mode:
                    os.chmod(path, mode)

    def _give_back(self, slot: Slot) -> None:
        self._busy.discard(slot)
        if slot.alive:
            self._idle.append(slot)
            # Later: the answer goes first.
            asyncio.get_running_loop().call_soon(slot.prepare)

    async def _add_slot(self) -> None:
        """Have one more keeper, from a new zygote when the last one died."""
        assert self.spec is not None
        async with self._loading:
            if self._control is not None:
                with contextlib.suppress(OSError):
                    self._idle.append(Slot(self._control, self._lost))
                    return
            LOG.warning("the zygote is gone, another one is started")
            await self._reload(self.spec, preload=True)
            assert self._control is not None
            with contextlib.suppress(OSError):
                self._idle.append(Slot(self._control, self._lost))

    def _lost(self, slot: Slot) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(slot)

    def reap(self) -> None:
        """Bury dead children; end those that nobody looks after any more."""
        stray = False
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            stray = True
        if stray:
            known = {slot.pid for slot in (*self._idle, *self._busy) if slot.pid is not None}
            system.kill_strays(known | {self._zygote.pid if self._zygote is not None else 0})

    def close(self) -> None:
        """End all processes and remove everything from the disk."""
        for slot in (*self._idle, *self._busy):
            slot.close()
        self._end_zygote()
        system.kill_descendants()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        # Few arenas: their address space would be taken from what a run may have.
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2",
                       "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "qinling_exec.runtime.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], env=environment, cwd="/", start_new_session=True,
        )
        theirs.close()
        self._control = ours

    async def _load(self, spec: Spec) -> None:
        """Let the zygote import the package; one that can't leaves that to the runs."""
        if not await self._tell(spec, preload=True):
            LOG.warning("the package can't be imported ahead of its runs")
            await self._reload(spec, preload=False)

    async def _reload(self, spec: Spec, preload: bool) -> None:
        self._end_zygote()
        self._spawn()
        if not await self._tell(spec, preload):
            raise Refused(500, "The worker could not load the function.")

    async def _tell(self, spec: Spec, preload: bool) -> bool:
        """Send the zygote its order; tell whether it came to an end."""
        assert self._control is not None
        order = {
            "code": self._code, "entry": spec.entry, "limits": spec.limits, "room": spec.room,
            "memory_size": spec.memory_size, "scratch": self._runs, "preload": preload,
            "isolation": self._isolation._asdict(),
        }
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._control, json.dumps(order).encode())
            return bool(await asyncio.wait_for(loop.sock_recv(self._control, 64), _LOAD_SECONDS))
        except (OSError, asyncio.TimeoutError):
            return False

    def _end_zygote(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()
            self._zygote = None


async def _receive(data: AsyncIterator[bytes], path: str, spec: Spec) -> None:
    digest, size = hashlib.sha256(), 0
    with open(path, "wb") as file:
        async for part in data:
            size += len(part)
            if size > spec.package.size:
                raise Refused(413, "The package is too large.")
            digest.update(part)
            file.write(part)
    if digest.hexdigest() != spec.sha256:
        raise Refused(400, "The package's SHA-256 is not the announced one.")
