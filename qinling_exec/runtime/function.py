# SPDX-License-Identifier: Apache-2.0
"""The function of a worker: its package on disk and the zygote that has it in memory."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any, AsyncIterator, Dict, Optional, Set

from qinling_exec.runtime import package, system
from qinling_exec.runtime.isolation import Isolation
from qinling_exec.runtime.messages import Refused
from qinling_exec.runtime.runs import Run

LOG = logging.getLogger("qinling_exec.runtime")
_LOAD_SECONDS = 30.0
_DEFAULTS = {
    "processes": 128, "open_files": 1024, "file_size": 500 << 20, "log_size": 1 << 20,
    "result_size": 16 << 20, "scratch_size": 512 << 20,
}


class Function:
    """What a worker runs.

    :param scratch: directory of this worker alone.
    """

    def __init__(self, scratch: str, isolation: Isolation) -> None:
        self.spec: Dict[str, Any] = {}
        self.ready = False
        self._scratch = scratch
        self._runs = os.path.join(scratch, "runs")
        self._isolation = isolation
        self._zygote: Optional[subprocess.Popen[bytes]] = None
        self._control: Optional[socket.socket] = None
        self._starting = asyncio.Lock()

    @property
    def limits(self) -> Dict[str, int]:
        """The limits of one run."""
        given = self.spec.get("limits") or {}
        return {name: int(given.get(name, value)) for name, value in _DEFAULTS.items()}

    def start(self) -> None:
        """Warm up: a zygote that does not know its function yet."""
        system.adopt_orphans()
        os.makedirs(self._runs, 0o700, exist_ok=True)
        if self._isolation.user is not None:
            os.chmod(self._scratch, 0o711)
            os.chown(self._runs, self._isolation.user, self._isolation.user)
        self._spawn()

    async def specialize(self, spec: Dict[str, Any], data: AsyncIterator[bytes]) -> None:
        """Take a package in, unpack it and import it.

        :raises Refused: the package is not what it should be.
        """
        if not isinstance(spec, dict) or "." not in str(spec.get("entry", "")):
            raise Refused(400, "X-Worker-Spec needs an entry such as main.main.")
        limits = package.Limits(**(spec.get("limits") or {}).get("package", {}))
        path = os.path.join(self._scratch, "package.zip")
        digest, size = hashlib.sha256(), 0
        try:
            with open(path, "wb") as file:
                async for part in data:
                    size += len(part)
                    if size > limits.size:
                        raise Refused(413, "The package is too large.")
                    digest.update(part)
                    file.write(part)
            if digest.hexdigest() != spec.get("sha256"):
                raise Refused(400, "The package's SHA-256 is not the announced one.")
            with open(path, "rb") as file:
                package.unpack(file, self._code, limits)
        except package.PackageRefused as error:
            raise Refused(400, str(error)) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.spec = spec
        await self._load()
        self.ready = True

    async def order(self, run: Run) -> None:
        """Start a run, on a new zygote when the last one died."""
        async with self._starting:
            try:
                assert self._control is not None
                run.start(self._control)
                return
            except OSError:
                LOG.warning("the zygote is gone, another one is started")
            self._end_zygote()
            self._spawn()
            await self._load()
            run.start(self._control)

    def reap(self, supervisors: Set[int]) -> None:
        """Bury dead children; end those that nobody looks after any more."""
        zygote = self._zygote.pid if self._zygote is not None else 0
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
            system.kill_strays({zygote, *supervisors})

    def close(self) -> None:
        """End the zygote and remove everything from the disk."""
        self._end_zygote()
        shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def _code(self) -> str:
        return os.path.join(self._scratch, "code")

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2",
                       "PYTHONDONTWRITEBYTECODE": "1",
                       "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "qinling_exec.runtime.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], env=environment, cwd="/", start_new_session=True,
        )
        theirs.close()
        self._control = ours

    async def _load(self) -> None:
        """Let the zygote import the package; one that can't leaves that to the runs."""
        assert self._control is not None
        limits = self.limits
        order = {
            "code": self._code, "entry": self.spec["entry"], "limits": limits,
            "memory_size": int(self.spec.get("memory_size") or 32 << 20),
            "scratch": self._runs, "user": self._isolation.user,
            "namespaces": self._isolation.namespaces,
        }
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            await loop.sock_sendall(self._control, json.dumps(order).encode())
            with contextlib.suppress(asyncio.TimeoutError):
                if await asyncio.wait_for(loop.sock_recv(self._control, 64), _LOAD_SECONDS):
                    return
        LOG.warning("the package can't be imported ahead of its runs")
        self._end_zygote()
        self._spawn()
        order["preload"] = False
        await loop.sock_sendall(self._control, json.dumps(order).encode())
        if not await asyncio.wait_for(loop.sock_recv(self._control, 64), _LOAD_SECONDS):
            raise Refused(500, "The zygote could not be started.")

    def _end_zygote(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._zygote is not None:
            with contextlib.suppress(ProcessLookupError):
                self._zygote.send_signal(signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                self._zygote.wait()
            self._zygote = None
