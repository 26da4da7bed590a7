# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-standalone: the whole service in one process tree, on SQLite."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import pathlib
import select
import signal
import sys
import threading
import time
import uuid
from types import FrameType
from typing import IO

import sqlalchemy as sa
from oslo_config import cfg
from oslo_log import log

from qinling_exec import conf as configuration
from qinling_exec import reports, tracing
from qinling_exec.api import app
from qinling_exec.cmd import refusal
from qinling_exec.cmd.listener import Listener
from qinling_exec.cmd.refusal import StartError
from qinling_exec.conf import consistency
from qinling_exec.context import RequestContext
from qinling_exec.db import migration, models
from qinling_exec.executions import leases
from qinling_exec.executions.engine import Engine
from qinling_exec.service import Service

#: The built-in runtime has the same id everywhere.
RUNTIME_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, "qinling-exec:runtime:python3"))
_START_SECONDS = 60
_LOOK_SECONDS = 0.5
_DRAIN_SECONDS = 330
#: Programs that run others send a signal to them and to their group: that is one wish.
_ONE_WISH_SECONDS = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_CLI = [
    cfg.HostAddressOpt("host", help="Address to listen on (default: 127.0.0.1)."),
    cfg.PortOpt("port", help="Port to listen on (default: 7070)."),
    cfg.StrOpt("data-dir", metavar="DIR",
               help="Directory of the database and the packages (default: the XDG data folder)."),
    cfg.BoolOpt("empty", default=False, help="Start without the built-in runtime python3."),
]

_TOUR = """
Try it, in another terminal:

  curl {url}/v1/runtimes
  printf 'def main(name="World", **kwargs):\\n    print("greeting", name)\\n    return "Hello, " + name\\n' > main.py
  python3 -m zipfile -c hello.zip main.py
  curl -F name=hello -F runtime_id={runtime} -F 'code={{"source": "package"}}' -F package=@hello.zip {url}/v1/functions
  curl -H 'Content-Type: application/json' -d '{{"function_id": "ID of the function"}}' {url}/v1/executions

Stop it with Ctrl-C. What it has is kept in {directory}.
"""  # noqa: E501


def main() -> int:
    """Run the service until SIGTERM or SIGINT; return the exit status."""
    with refusal.told("qinling-exec-standalone"):
        return _run()


def _run() -> int:
    conf = _configure(sys.argv[1:])
    directory = _prepare(conf)
    with _locked(directory):
        return _serve(conf, directory)


def _configure(args: list[str]) -> cfg.ConfigOpts:
    conf = configuration.load(args, prog="qinling-exec-standalone", cli_opts=_CLI)
    conf.set_override("auth_strategy", "noauth")
    conf.set_override("orchestrator", "process", "engine")
    for name in ("host", "port"):
        if getattr(conf, name) is not None:
            conf.set_override(name, getattr(conf, name), "api")
    consistency.check(conf)
    if not conf.api.insecure_noauth_everywhere and not _is_loopback(conf.api.host):
        raise StartError(
            f"{conf.api.host} can be reached from other machines, and this service asks nobody who"
            " they are. Listen on 127.0.0.1, or set [api] insecure_noauth_everywhere = true in a"
            " config file if you know what that means."
        )
    return conf


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _prepare(conf: cfg.ConfigOpts) -> pathlib.Path:
    """Create the data directory and let the configuration point to it."""
    os.umask(0o077)  # whatever is made from here on is the user's own
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    directory = pathlib.Path(conf.data_dir or os.path.join(data, "qinling-exec")).absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"The data directory {directory} can't be made: {error.strerror}. Name"
                         " another one with --data-dir.") from error
    conf.set_default("connection", f"sqlite:///{directory}/qinling_exec.sqlite", "database")
    conf.set_default("directory", str(directory / "packages"), "packages")
    conf.set_default("access_log", False, "monitoring")
    log.setup(conf, "qinling_exec")
    return directory


def _locked(directory: pathlib.Path) -> IO[str]:
    """Make sure that no other service uses the directory; the lock ends with the process."""
    try:
        number = os.open(directory / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        lock = os.fdopen(number, "w")
    except OSError as error:
        raise StartError(f"The data directory {directory} can't be written:"
                         f" {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StartError(f"The data directory {directory} is in use by another qinling-exec. Stop"
                         " that one, or name another directory with --data-dir.") from error
    return lock


class _Stop:
    """Asked for by SIGTERM and SIGINT.

    An Event would hang: when it is set in the midst of being set, and when the signal comes in the
    moment before it waits. A pipe that the signal itself writes to does neither.
    """

    def __init__(self) -> None:
        self._asked: float | None = None
        self._pipe, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    @property
    def asked(self) -> bool:
        """True after the first signal."""
        return self._asked is not None

    def wait(self) -> None:
        """Return when the service is to end."""
        while not self.asked:
            select.select([self._pipe], [], [])
            os.read(self._pipe, 4096)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Ask; asked twice, whoever asks does not want to wait."""
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
        elif now - self._asked > _ONE_WISH_SECONDS:
            os._exit(1)


def _serve(conf: cfg.ConfigOpts, directory: pathlib.Path) -> int:
    reports.install(conf)
    tracing.install(conf, "standalone")
    service = Service(conf, alone=True)
    # Before anything starts a thread: one that can't start leaves nothing behind.
    migration.upgrade(service.database)
    server = _bind(conf, service)
    stop = _Stop()
    try:
        leases.expire_all(service.database)
        service.start()
    except BaseException:
        server.stop()  # its threads would keep the process
        raise
    engine = service.build_engine()
    if not conf.empty:
        _add_runtime(service)
    engine.start()
    answering = threading.Thread(target=server.serve, name="http")
    try:
        _await_runtimes(engine, stop)
        answering.start()
        _announce(conf, directory)
        stop.wait()
    finally:
        _stop(server, answering, engine, service)
    return 0


def _bind(conf: cfg.ConfigOpts, service: Service) -> Listener:
    """Take the port before anything else is done."""
    server = Listener((conf.api.host, conf.api.port), app.build(service), conf.api.threads,
                      _DRAIN_SECONDS)
    try:
        server.prepare()
    except OSError as error:
        raise StartError(f"Port {conf.api.port} of {conf.api.host} can't be used"
                         f" ({_reason(error)}). Name another one with --port.") from error
    conf.set_override("port", server.socket.getsockname()[1], "api")  # 0 means any
    return server


def _reason(error: OSError) -> str:
    return "it is taken by another program" if "in use" in str(error) else str(error)


def _add_runtime(service: Service) -> None:
    """Make the built-in runtime known, once."""
    table = models.Runtime.__table__
    with service.database.reader() as connection:
        known = connection.execute(sa.select(table.c.id).where(table.c.id == RUNTIME_ID)).first()
    if known is None:
        service.runtimes.create(RequestContext(project_id="default", is_admin=True), {
            "id": RUNTIME_ID, "name": "python3", "image": "python3", "is_public": True,
            "trusted": True, "description": "The Python that the service itself runs on.",
        })


def _await_runtimes(engine: Engine, stop: _Stop) -> None:
    """Wait until the runtimes' pools are there, so that a function can run."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and not stop.asked:
        if engine.wait_ready(_LOOK_SECONDS):
            return


def _announce(conf: cfg.ConfigOpts, directory: pathlib.Path) -> None:
    host = f"[{conf.api.host}]" if ":" in conf.api.host else conf.api.host
    url = f"http://{host}:{conf.api.port}"
    print(f"qinling-exec is listening on {url}")
    if not conf.empty:
        print(_TOUR.format(url=url, runtime=RUNTIME_ID, directory=directory))
    sys.stdout.flush()


def _stop(server: Listener, answering: threading.Thread, engine: Engine,
          service: Service) -> None:
    """Answer what was asked, end what runs, leave nothing behind."""
    if answering.ident is not None:
        server.stop()
        answering.join()
    engine.stop(others=False)
    service.stop()
    tracing.uninstall()
    # It has ended cleanly: a late signal would kill the interpreter that shuts down.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
