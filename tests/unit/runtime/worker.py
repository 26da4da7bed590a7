# SPDX-License-Identifier: Apache-2.0
"""A real worker process."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import qinling_exec
from tests.unit.runtime.client import SECRET, Client

_TREE = str(pathlib.Path(qinling_exec.__file__).parents[1])


class Worker(Client):
    """One worker process.

    :param wrap: command in front of the worker's own, such as one that takes rights away.
    :param apart: its scratch is outside of the directories for temporary files, as in a pod.
    :param python: the program that runs it.
    """

    def __init__(self, *, room: int = 3, wrap: tuple[str, ...] = (),
                 environment: dict[str, str] | None = None, parent_fd: int | None = None,
                 apart: bool = False, python: str = sys.executable) -> None:
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="qw-"))
        self.directory.chmod(0o777 if wrap else 0o711)
        super().__init__(str(self.directory / "s"))
        self.stderr = self.directory / "stderr"
        command = [*wrap, python, "-m", "qinling_exec.runtime", "--listen",
                   f"unix:{self.path}", "--room", str(room)]
        self._apart = pathlib.Path(tempfile.mkdtemp(prefix=".qw-", dir=_TREE)) if apart else None
        if self._apart is not None:
            environment = {"QINLING_RUNTIME_SCRATCH": str(self._apart), **(environment or {})}
        else:
            command += ["--scratch", str(self.directory / "scratch")]
        if parent_fd is not None:
            command += ["--parent-fd", str(parent_fd)]
        passed = {name: value for name, value in os.environ.items()
                  if name.startswith(("COVERAGE", "COV_"))}
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, stderr=stderr, stdin=subprocess.DEVNULL, start_new_session=True,
                pass_fds=[] if parent_fd is None else [parent_fd],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": _TREE, **passed,
                     "QINLING_RUNTIME_SECRET": SECRET, **(environment or {})})
        until = time.monotonic() + 20
        while True:
            try:
                self.ping()
                break
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.01)

    @property
    def scratch(self) -> pathlib.Path:
        """The worker's own directory."""
        return next(self._apart.iterdir()) if self._apart else self.directory / "scratch"

    def stop(self) -> int:
        """End the worker; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for directory in filter(None, (self.directory, self._apart)):
            shutil.rmtree(directory, ignore_errors=True)
        return self.process.returncode
