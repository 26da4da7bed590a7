# SPDX-License-Identifier: Apache-2.0
"""Messages between processes through PostgreSQL's LISTEN and NOTIFY."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Any

from qinling_exec.db.engine import Database

LOG = logging.getLogger(__name__)
_NAME = "qinling_exec"
#: After a lost connection, in seconds.
_PAUSE_SECONDS = 1.0
#: The longest without a sign of life on the connection.
_CHECK_SECONDS = 15.0


class Channel:
    """One connection of this process that listens, and sends what others are to hear.

    Sending here and not in the transactions that the messages are about: a commit with a NOTIFY
    holds a lock of the whole database, and would make all such commits wait for each other.

    :param hear: called with topic and payload of each message of another process.
    """

    def __init__(self, database: Database, hear: Callable[[str, str], object]) -> None:
        self._database = database
        self._hear = hear
        #: True while messages of others arrive.
        self.up = False
        self._lock = threading.Lock()
        self._outgoing: dict[tuple[str, str], None] = {}  # in order, each once
        self._bell, self._rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="channel", daemon=True)

    @classmethod
    def of(cls, database: Database, hear: Callable[[str, str], object]) -> Channel | None:
        """Return a channel where the database has such a thing."""
        return cls(database, hear) if database.kind == "postgresql" else None

    def start(self) -> None:
        """Connect, now and whenever the connection was lost."""
        self._thread.start()

    def stop(self) -> None:
        """Send what waits and disconnect."""
        self._stop.set()
        self._pull()
        if self._thread.ident is not None:
            self._thread.join(5)

    def send(self, topic: str, payload: str) -> None:
        """Send a message soon; several alike are one."""
        with self._lock:
            first = not self._outgoing
            self._outgoing[topic, payload] = None
        if first:
            self._pull()

    def _pull(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._rope, b"!")

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                with self._connected() as connection:
                    self._serve(connection)
            except Exception as error:
                LOG.warning("Messages between processes are not heard: %s", error)
                self._stop.wait(_PAUSE_SECONDS)

    @contextlib.contextmanager
    def _connected(self) -> Any:
        pooled = self._database.engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            connection.autocommit = True
            connection.add_notify_handler(self._receive)
            connection.execute(f"LISTEN {_NAME}")
            self._own = connection.info.backend_pid
            self.up = True
            yield connection
        finally:
            self.up = False
            connection.close()

    def _serve(self, connection: Any) -> None:
        descriptor = connection.fileno()
        while not self._stop.is_set():
            ready, _, _ = select.select([descriptor, self._bell], [], [], _CHECK_SECONDS)
            if not ready:
                connection.execute("SELECT 1")
            if descriptor in ready:
                connection.pgconn.consume_input()
                while (message := connection.pgconn.notifies()) is not None:
                    self._take(message.be_pid, message.extra.decode())
            if self._bell in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 4096)
                self._flush(connection)

    def _flush(self, connection: Any) -> None:
        with self._lock:
            messages, self._outgoing = list(self._outgoing), {}
        if messages:
            texts = [f"{topic} {payload}" for topic, payload in messages]
            connection.execute(
                f"SELECT count(pg_notify('{_NAME}', text)) FROM unnest(%s::text[]) AS text",
                [texts],
            )

    def _receive(self, message: Any) -> None:
        self._take(message.pid, message.payload)

    def _take(self, sender: int, text: str) -> None:
        if sender != self._own:  # what this process sends it has heard already
            self._hear(*text.split(" ", 1))
