# SPDX-License-Identifier: Apache-2.0
"""Starts and ends the real service as a child process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.functional import processes
from tests.functional.client import Api

READY = re.compile(r"^qinling-exec is listening on (http://\S+)$", re.M)
PROGRAM = [sys.executable, "-m", "qinling_exec.cmd.standalone"]


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """One service.

    :param data_dir: where it keeps everything.
    :param arguments: more of its command line.
    :param settings: text of a configuration file.
    """

    def __init__(self, data_dir: Path, *arguments: str, settings: str = "",
                 port: int | None = None) -> None:
        self.data_dir = data_dir
        self.url = ""
        self.port = port or free_port()
        self.log_file = data_dir.with_name(f"{data_dir.name}.{self.port}.log")
        command = [*PROGRAM, "--port", str(self.port), "--data-dir", str(data_dir), *arguments]
        if settings:
            config = self.log_file.with_suffix(".conf")
            config.write_text(settings)
            command += ["--config-file", str(config)]
        self._start(command)

    def _start(self, command: Sequence[str | Path]) -> None:
        with self.log_file.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """All that the service has printed."""
        return self.log_file.read_text(errors="replace")

    def wait_ready(self, seconds: float = 30) -> Running:
        """Wait for the line that says that it can run a function."""
        processes.wait_for(
            lambda: READY.search(self.log) or self.process.poll() is not None, seconds
        )
        found = READY.search(self.log)
        if found is None:
            self.kill()
            raise AssertionError(f"the service did not start:\n{self.log[-4000:]}")
        self.url = found[1]
        return self

    def api(self, **options: str) -> Api:
        """Return a client of it."""
        return Api(self.url, **options)

    def below(self) -> dict[processes.Key, str]:
        """Return the processes below the service, and remember them."""
        found = processes.descendants(self.process.pid)
        processes.SEEN.update(found)
        return found

    def workers(self) -> dict[processes.Key, str]:
        """Return its runtime processes that take calls (not what they forked for runs)."""
        return {key: line for key, line in self.below().items() if "qinling_exec.runtime" in line}

    def send(self, number: int) -> None:
        """Send the service, and it alone, a signal."""
        self.below()
        self.process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        """Return its exit code."""
        return self.process.wait(seconds)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it cleanly; return its exit code."""
        if self.process.poll() is None:
            self.send(number)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would: what is below it has to go by itself."""
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
        self.wait()


def run(*arguments: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    """Run the service's program until it ends by itself."""
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True,
                          timeout=seconds, stdin=subprocess.DEVNULL, check=False,
                          env={**os.environ})
