# SPDX-License-Identifier: Apache-2.0
"""What all database servers have in common: a folder, a port, a process, and its end."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tests.functional import processes

#: Seconds that a server may take to start or to end; on a busy machine it is some.
_PATIENCE = 60


class Missing(Exception):
    """A database's programs are not installed."""


class Server(ABC):
    """A database server. Made is started; :meth:`close` leaves nothing of it.

    :param durable: see :func:`tests.databases.start`.
    """

    #: Which database it is.
    kind: str
    #: Users that Debian's packages make; a server refuses to run as root.
    users: tuple[str, ...] = ()

    def __init__(self, *, durable: bool = False) -> None:
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._numbers = itertools.count(1)
        self.user = _unprivileged(self.users) if os.getuid() == 0 else None
        # pytest's own folders can be entered by their owner alone.
        self.folder = Path(tempfile.mkdtemp(prefix=f"qinling-exec-{self.kind}-"))
        if self.user:
            shutil.chown(self.folder, self.user)
        try:
            self.prepare()
            self.start()
            self.url = self.new_schema()
        except BaseException:
            self.close()
            raise

    @property
    def log_file(self) -> Path:
        """Where the server writes its messages."""
        return self.folder / "server.log"

    @abstractmethod
    def prepare(self) -> None:
        """Make the files of a new server."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def address(self, schema: str, port: int | None = None) -> str:
        """Return the SQLAlchemy URL of a schema, through another port when one is given."""

    #: Schema that is there from the start.
    first_schema: str
    #: Signal that ends the server cleanly, without waiting for its clients.
    stop_signal = signal.SIGTERM

    def start(self) -> None:
        """Start the server (again), and wait until it answers."""
        assert self.process is None, "it runs already"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user,
                group=_group(self.user), extra_groups=[] if self.user else None,
                cwd=self.folder, start_new_session=True, env=_environment(),
            )
        processes.wait_for(lambda: self._answers() or self.process.poll() is not None, _PATIENCE)
        if not self._answers():
            self.kill()
            text = self.log_file.read_text(errors="replace")
            raise RuntimeError(f"{self.kind} did not start:\n{text[-3000:]}")

    def must_run(self) -> None:
        """Fail, with the end of the server's messages, when it has ended by itself."""
        if self.process is not None and (code := self.process.poll()) is not None:
            text = self.log_file.read_text(errors="replace")
            raise RuntimeError(f"{self.kind} ended with {code}:\n{text[-3000:]}")

    def stop(self) -> None:
        """Stop the server cleanly; its clients are cut off."""
        if self.process is not None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            self.process = None

    def kill(self) -> None:
        """End all processes of the server at once, as a crash does."""
        if self.process is None:
            return
        below = processes.descendants(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        processes.kill(below)
        self.process.wait()
        self.process = None
        processes.wait_for(lambda: not processes.alive(below), 10)

    def pause(self) -> None:
        """Let the server hang: connections are taken by the kernel and never answered."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal_all(signal.SIGCONT)

    def new_schema(self) -> str:
        """Make an empty schema; return its SQLAlchemy URL."""
        name = f"qinling_{next(self._numbers)}"
        with self.administrator() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        return self.address(name)

    def drop_schema(self, url: str) -> None:
        """Remove a schema that :meth:`new_schema` made; nobody may be connected to it."""
        with self.administrator() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {sa.make_url(url).database}")

    @contextlib.contextmanager
    def administrator(self) -> Iterator[sa.Connection]:
        """Connect as one who may do everything, each statement a transaction of its own."""
        engine = sa.create_engine(self.address(self.first_schema), poolclass=sa.pool.NullPool,
                                  isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection

    def through(self, port: int, url: str | None = None) -> str:
        """Return the URL of a schema when it is reached through another port of this host."""
        return self.address(str(sa.make_url(url or self.url).database), port)

    def close(self) -> None:
        """End the server and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def run(self, *command: str) -> None:
        """Run one of the database's programs to its end."""
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              user=self.user, group=_group(self.user), cwd=self.folder,
                              extra_groups=[] if self.user else None, check=False,
                              env=_environment())
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")

    def _answers(self) -> bool:
        try:
            with self.administrator():
                return True
        except sa.exc.OperationalError:
            return False

    def _signal_all(self, number: int) -> None:
        assert self.process is not None
        for pid, _ in processes.descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        self.process.send_signal(number)


def program(names: tuple[str, ...], folders: tuple[str, ...], package: str) -> str:
    """Return the path of a program that may lie outside of PATH, the newest if there are several.

    :raises Missing: it is nowhere.
    """
    places = [*folders, "/usr/sbin", "/usr/local/sbin", *os.environ.get("PATH", "").split(":")]
    for name in names:
        for folder in places:
            if os.access(f"{folder}/{name}", os.X_OK):
                return f"{folder}/{name}"
    raise Missing(f"{names[0]} is not installed. On Debian: sudo apt-get install {package}")


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged(names: tuple[str, ...]) -> str:
    for name in (*names, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Missing("There is no unprivileged user that a database server could run as.")


def _group(user: str | None) -> int | None:
    return pwd.getpwnam(user).pw_gid if user else None


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"}
