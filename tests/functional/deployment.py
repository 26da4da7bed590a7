# SPDX-License-Identifier: Apache-2.0
"""The service as it is deployed: gunicorn processes for the API, and engines, on one database.

::

    with Deployment(folder, url, apis=2, engines=2) as deployment:
        api = deployment.api(0)           # a client of the first API process
        deployment.engines[1].kill()      # SIGKILL, of the process and of what watches over it
        deployment.start_engine()         # one more
        deployment.engines[0].workers()   # its runtime processes

``engine.pid`` and ``api.pid`` are the processes that do the work; ``.process`` is the master above
each (cotyledon's, gunicorn's), which starts another one when that dies: ``crash()`` kills the
working process alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import requests

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.running import free_port

ROOT = Path(__file__).parents[2]
_GUNICORN = [sys.executable, "-m", "gunicorn",
             "-c", str(ROOT / "etc/qinling_exec/gunicorn.conf.py"),
             "qinling_exec.wsgi.api:application"]
_ENGINE = [sys.executable, "-m", "qinling_exec.cmd.engine"]
_MANAGE = [sys.executable, "-m", "qinling_exec.cmd.manage"]


class Process:
    """A master process with the one process that works below it.

    :param faultpoints: see :mod:`qinling_exec.faultpoint`.
    """

    def __init__(self, name: str, folder: Path, command: list[str], faultpoints: str = "",
                 environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._asked = False
        self.log_file = folder / f"{name}.log"
        more = {"QINLING_EXEC_FAULTPOINTS": faultpoints} if faultpoints else {}
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, env={**os.environ, **(environment or {}), **more},
            )

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self.log_file.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Process id of the one that works."""
        children = [pid for pid, _ in self._children()]
        assert len(children) == 1, f"{self.name} has {len(children)} children\n{self.log[-3000:]}"
        return children[0]

    def _children(self) -> list[processes.Key]:
        """Return the direct children of the master."""
        return [key for key in processes.descendants(self.process.pid)
                if processes.parent(key[0]) == self.process.pid]

    def below(self) -> dict[processes.Key, str]:
        """Return the processes below the master, and remember them."""
        found = processes.descendants(self.process.pid)
        processes.SEEN.update(found)
        return found

    def workers(self) -> dict[processes.Key, str]:
        """Return its runtime processes, with what they forked for runs."""
        return {key: line for key, line in self.below().items() if "qinling_exec.runtime" in line}

    def kill(self) -> None:
        """End master and working process with SIGKILL: as when the machine goes."""
        self.below()
        for pid in (self.process.pid, *[pid for pid, _ in self._children()]):
            with contextlib.suppress(ProcessLookupError):  # it went by itself meanwhile
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def crash(self) -> None:
        """Kill the working process; its master starts another one."""
        self.below()
        os.kill(self.pid, signal.SIGKILL)

    def pause(self) -> None:
        """Stop the working process (SIGSTOP), its workers go on."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def reload(self) -> None:
        """Tell it to read its configuration again (SIGHUP)."""
        os.kill(self.process.pid, signal.SIGHUP)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), once: gunicorn's master dies of a second one."""
        self.below()
        if not self._asked:
            self._asked = True
            self.process.terminate()

    def stop(self, seconds: float = 60) -> int:
        """End it cleanly; return its exit code."""
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end:\n{self.log[-4000:]}") from None


class ApiProcess(Process):
    """One gunicorn with one process."""

    def __init__(self, number: int, folder: Path, environment: Mapping[str, str],
                 faultpoints: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = f"--bind 127.0.0.1:{self.port} --workers 1"
        super().__init__(f"api-{number}", folder, _GUNICORN, faultpoints,
                         {**environment, "GUNICORN_CMD_ARGS": arguments})

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until it answers."""
        def answers() -> bool:
            try:
                return requests.get(self.url, timeout=5).ok
            except requests.ConnectionError:
                return self.process.poll() is not None

        processes.wait_for(answers, seconds)
        assert self.process.poll() is None, f"the API did not start:\n{self.log[-4000:]}"


class EngineProcess(Process):
    """One qinling-exec-engine with one process."""

    def __init__(self, number: int, folder: Path, config: Path, faultpoints: str = "") -> None:
        super().__init__(f"engine-{number}", folder,
                         [*_ENGINE, "--config-file", str(config)], faultpoints)

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until it can claim."""
        processes.wait_for(
            lambda: "The engine is ready." in self.log or self.process.poll() is not None, seconds
        )
        assert "The engine is ready." in self.log, f"no engine:\n{self.log[-4000:]}"


class Deployment:
    """M API processes and N engines, as children of the test.

    :param folder: for configuration, packages and logs; its path must be short (sockets).
    :param url: SQLAlchemy URL of an empty database.
    :param settings: ``{"engine": {"lease_seconds": 3}}``: more configuration.
    :param api_faultpoints: arms all API processes; ``engine_faultpoints`` all engines that are
        started with the deployment. :meth:`start_api` and :meth:`start_engine` arm one.
    :param image: of the runtime.
    """

    def __init__(self, folder: Path, url: str, *, apis: int = 1, engines: int = 1,
                 settings: Mapping[str, Mapping[str, object]] | None = None,
                 api_faultpoints: str = "", engine_faultpoints: str = "",
                 image: str = "python3") -> None:
        self.folder = folder
        self._image = image
        self.url = url
        self.config = folder / "qinling_exec.conf"
        self.configure(settings or {})
        self.manage("db", "sync")
        self.apis: list[ApiProcess] = []
        self.engines: list[EngineProcess] = []
        self._callers: list[Api] = []
        try:
            for _ in range(apis):
                self.start_api(api_faultpoints, ready=False)
            for _ in range(engines):
                self.start_engine(engine_faultpoints, ready=False)
            for process in (*self.apis, *self.engines):
                process.wait_ready()
            self.runtime = self._make_runtime() if apis and engines else ""
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, kind: object, *_details: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def configure(self, settings: Mapping[str, Mapping[str, object]]) -> None:
        """Write the configuration file; processes that run read it when they are told to."""
        groups: dict[str, dict[str, object]] = {
            "DEFAULT": {"auth_strategy": "noauth"},
            "database": {"connection": self.url.replace("%", "%%")},
            "packages": {"directory": self.folder / "packages"},
        }
        for name, options in settings.items():
            groups.setdefault(name, {}).update(options)
        lines = []
        for name, options in groups.items():
            lines += [f"[{name}]", *(f"{key} = {value}" for key, value in options.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def manage(self, *arguments: str) -> str:
        """Run qinling-exec-manage; return what it printed."""
        done = subprocess.run([*_MANAGE, "--config-file", str(self.config), *arguments],
                              capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def start_api(self, faultpoints: str = "", ready: bool = True) -> ApiProcess:
        """Start one more API process."""
        environment = {"QINLING_EXEC_CONFIG_FILES": str(self.config)}
        self.apis.append(ApiProcess(len(self.apis), self.folder, environment, faultpoints))
        if ready:
            self.apis[-1].wait_ready()
        return self.apis[-1]

    def start_engine(self, faultpoints: str = "", ready: bool = True) -> EngineProcess:
        """Start one more engine."""
        self.engines.append(
            EngineProcess(len(self.engines), self.folder, self.config, faultpoints))
        if ready:
            self.engines[-1].wait_ready()
        return self.engines[-1]

    def api(self, number: int = 0, **options: str) -> Api:
        """Return a client of one of the API processes."""
        self._callers.append(Api(self.apis[number].url, **options))
        return self._callers[-1]

    def _make_runtime(self) -> str:
        caller = self.api()
        made = caller.ok("POST", "/v1/runtimes", 201,
                         json={"name": "python3", "image": self._image})
        until = time.monotonic() + 60
        while time.monotonic() < until:
            status = caller.ok("GET", f"/v1/runtimes/{made['id']}")["status"]
            if status == "available":
                return str(made["id"])
            time.sleep(0.05)
        raise AssertionError(f"the runtime is {status}\n{self.engines[0].log[-3000:]}")

    def log(self) -> str:
        """Return the logs of all processes, for messages of assertions."""
        return "\n".join(f"=== {item.name}\n{item.log[-3000:]}"
                         for item in (*self.apis, *self.engines))

    def stop(self) -> None:
        """End what is still there, the API first; everything has to end cleanly."""
        for caller in self._callers:
            caller.close()
        codes = {}
        for group in (self.apis, self.engines):
            running = [item for item in group if item.process.poll() is None]
            for item in running:
                item.terminate()
            codes.update({item.name: item.stop() for item in running})
        assert set(codes.values()) <= {0}, f"exit codes {codes}\n{self.log()}"

    def kill(self) -> None:
        """Kill what is still there."""
        for caller in self._callers:
            caller.close()
        for item in (*self.apis, *self.engines):
            if item.process.poll() is None:
                item.kill()
