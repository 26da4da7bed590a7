# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-standalone: the whole service in one process tree, on SQLite."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import pathlib
import signal
import sys
import threading
import time
import uuid
from types import FrameType
from typing import IO

import sqlalchemy as sa
from cheroot import wsgi
from oslo_config import cfg
from oslo_log import log

from qinling_exec import conf as configuration
from qinling_exec.api import app
from qinling_exec.catalogue import runtimes
from qinling_exec.context import RequestContext
from qinling_exec.db import migration, models
from qinling_exec.executions import leases
from qinling_exec.executions.engine import Engine
from qinling_exec.service import Service

#: The built-in runtime has the same id everywhere.
RUNTIME_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, "qinling-exec:runtime:python3"))
_START_SECONDS = 60
_DRAIN_SECONDS = 330

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


class StartError(Exception):
    """The service can't start; the text tells the person at the terminal what to do."""


def main() -> int:
    """Run the service until SIGTERM or SIGINT; return the exit status."""
    try:
        conf = _configure(sys.argv[1:])
        directory = _prepare(conf)
        with _locked(directory):
            return _serve(conf, directory)
    except (StartError, cfg.ConfigFilesNotFoundError, cfg.ConfigFileParseError) as error:
        print(f"qinling-exec-standalone: {error}", file=sys.stderr)
        return 1


def _configure(args: list[str]) -> cfg.ConfigOpts:
    conf = configuration.load(args, prog="qinling-exec-standalone", cli_opts=_CLI)
    conf.set_override("auth_strategy", "noauth")
    conf.set_override("orchestrator", "process", "engine")
    for name in ("host", "port"):
        if getattr(conf, name) is not None:
            conf.set_override(name, getattr(conf, name), "api")
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


def _serve(conf: cfg.ConfigOpts, directory: pathlib.Path) -> int:
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():  # asked twice: whoever asks does not want to wait
            os._exit(1)
        stop.set()

    service = Service(conf)
    server = _bind(conf, service)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    migration.upgrade(service.database)
    leases.expire_all(service.database)
    service.start()
    engine = service.build_engine()
    if not conf.empty:
        _add_runtime(service)
    engine.start()
    answering = threading.Thread(target=server.serve, name="http")
    try:
        _await_runtimes(service, stop)
        answering.start()
        _announce(conf, directory)
        stop.wait()
    finally:
        _stop(server, answering, engine, service)
    return 0


def _bind(conf: cfg.ConfigOpts, service: Service) -> wsgi.Server:
    """Take the port before anything else is done."""
    address = (conf.api.host, conf.api.port)
    server = wsgi.Server(address, app.build(service), numthreads=conf.api.threads,
                         request_queue_size=256, shutdown_timeout=_DRAIN_SECONDS,
                         server_name="qinling-exec")
    try:
        server.prepare()
    except OSError as error:
        raise StartError(f"Port {conf.api.port} of {conf.api.host} can't be used"
                         f" ({_reason(error)}). Name another one with --port.") from error
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


def _await_runtimes(service: Service, stop: threading.Event) -> None:
    """Wait until the runtimes' pools are there, so that a function can run."""
    table = models.Runtime.__table__
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and not stop.is_set():
        with service.database.reader() as connection:
            creating = connection.execute(
                sa.select(table.c.id).where(table.c.status == runtimes.CREATING)
            ).first()
        if creating is None:
            return
        stop.wait(0.02)


def _announce(conf: cfg.ConfigOpts, directory: pathlib.Path) -> None:
    host = f"[{conf.api.host}]" if ":" in conf.api.host else conf.api.host
    url = f"http://{host}:{conf.api.port}"
    print(f"qinling-exec is listening on {url}")
    if not conf.empty:
        print(_TOUR.format(url=url, runtime=RUNTIME_ID, directory=directory))
    sys.stdout.flush()


def _stop(server: wsgi.Server, answering: threading.Thread, engine: Engine,
          service: Service) -> None:
    """Answer what was asked, end what runs, leave nothing behind."""
    if answering.ident is not None:
        server.stop()
        answering.join()
    engine.stop()
    service.stop()


if __name__ == "__main__":
    sys.exit(main())
