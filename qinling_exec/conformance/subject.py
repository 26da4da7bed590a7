# SPDX-License-Identifier: Apache-2.0
"""What is checked: a command that starts a worker here, or an image that starts one in a pod."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

_START_SECONDS = 60.0
_PORT = 9090
#: Of what a command said before it ended, in characters.
_SAID = 1000


class NotStarted(Exception):
    """A worker could not be started; the text says why."""


class Place(Protocol):
    """A worker that was started, and is still without a function."""

    host: str
    port: int

    def ended(self) -> str | None:
        """Return what is known of how it came to its end, None while it runs."""

    def end(self) -> int | None:
        """Ask it to end as the service would; return its exit status where that is known."""


class Subject(Protocol):
    """Starts workers, each for one check."""

    #: Workers are alone in a container, as a user without rights.
    confined: bool

    def start(self) -> AbstractContextManager[Place]:
        """Return a new worker that is ended with the context."""


class _Process:
    def __init__(self, process: subprocess.Popen[bytes], port: int,
                 errors: pathlib.Path) -> None:
        self.host, self.port = "127.0.0.1", port
        self.process = process
        self._errors = errors

    def ended(self) -> str | None:
        """Return its exit status and the end of what it said."""
        if self.process.poll() is None:
            return None
        said = self._errors.read_text(errors="replace").strip()[-_SAID:]
        return f"it has ended with status {self.process.returncode}" + (said and f": {said}")

    def end(self) -> int | None:
        """Ask it to end, and wait."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(_START_SECONDS)
        return None


class Command:
    """A command on this machine.

    :param text: a shell's words; ``{port}`` is where the port belongs, on 127.0.0.1.
    """

    confined = False

    def __init__(self, text: str) -> None:
        self._words = shlex.split(text)

    @contextlib.contextmanager
    def start(self) -> Iterator[_Process]:
        """Start it with an environment that has nothing of this process's but PATH."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [word.replace("{port}", str(port)) for word in self._words]
        with tempfile.TemporaryDirectory(prefix="qinling-check-",
                                         ignore_cleanup_errors=True) as scratch:
            errors = pathlib.Path(scratch) / "stderr"
            try:
                with errors.open("wb") as stderr:
                    process = subprocess.Popen(
                        words, stdin=subprocess.DEVNULL, stderr=stderr,
                        start_new_session=True, cwd=scratch,
                        env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": scratch,
                             "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
            except OSError as error:
                raise NotStarted(f"{words[0]} can't be started: {error.strerror}") from error
            try:
                yield _Process(process, port, errors)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class _Pod:
    def __init__(self, host: str) -> None:
        self.host, self.port = host, _PORT

    def ended(self) -> str | None:
        """Not looked at again once it runs."""
        return None

    def end(self) -> int | None:
        """Pods are deleted with their context; what status they had is not told."""
        return None


class Image:
    """An image, in pods as strict as those of the service; made with ``kubectl``.

    :param namespace: where; it must exist, and its pods must be reachable from here.
    """

    confined = True

    def __init__(self, image: str, namespace: str) -> None:
        self._image = image
        self._kubectl = ["kubectl", "-n", namespace]

    @contextlib.contextmanager
    def start(self) -> Iterator[_Pod]:
        """Start a pod and wait until it runs."""
        name = f"qinling-check-{secrets.token_hex(4)}"
        self._run("create", "-f", "-", given=json.dumps(_describe(name, self._image)))
        try:
            yield _Pod(self._wait(name))
        finally:
            self._run("delete", "pod", name, "--wait=false", "--grace-period=1")

    def _wait(self, name: str) -> str:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            status = json.loads(self._run("get", "pod", name, "-o", "json"))["status"]
            for container in status.get("containerStatuses", []):
                if "running" in container["state"] and status.get("podIP"):
                    return str(status["podIP"])
                waiting = container["state"].get("waiting", {})
                if "Err" in waiting.get("reason", "") or "terminated" in container["state"]:
                    raise NotStarted(f"the pod does not run: {json.dumps(container['state'])}")
            time.sleep(0.2)
        raise NotStarted(f"no pod ran within {_START_SECONDS:.0f} seconds")

    def _run(self, *arguments: str, given: str | None = None) -> str:
        try:
            done = subprocess.run([*self._kubectl, *arguments], input=given, text=True,
                                  capture_output=True, timeout=_START_SECONDS)
        except OSError as error:
            raise NotStarted(f"kubectl can't be started: {error.strerror}") from error
        if done.returncode:
            raise NotStarted(f"kubectl {arguments[0]}: {done.stderr.strip()}")
        return done.stdout


def _describe(name: str, image: str) -> dict[str, Any]:
    """Return a pod that passes Pod Security ``restricted``."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": name, "emptyDir": {"sizeLimit": "128Mi"}}
                    for name in ("scratch", "runs")],
        "containers": [{
            "name": "worker", "image": image, "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"},
                          "limits": {"cpu": "1", "memory": "512Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                "capabilities": {"drop": ["ALL"]}},
            "env": [{"name": "QINLING_RUNTIME_SCRATCH", "value": "/qinling"}],
            "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"},
                             {"name": "runs", "mountPath": "/qinling"}]}]}}
