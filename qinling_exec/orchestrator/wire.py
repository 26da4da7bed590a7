# SPDX-License-Identifier: Apache-2.0
"""Talks the worker protocol: HTTP over a Unix socket or TCP, kept alive between runs."""

from __future__ import annotations

import http.client
import json
import logging
import select
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, BinaryIO

from qinling_exec import faultpoint
from qinling_exec.orchestrator.workers import Worker

LOG = logging.getLogger(__name__)
STREAM = "application/vnd.qinling.run"
_FRAME = struct.Struct(">cI")
_CONNECT_SECONDS = 5.0
#: The worker kills the run's processes and waits until they are gone.
_CANCEL_SECONDS = 8.0


class WorkerUnreachable(Exception):
    """The worker did not take the request: nothing was started there."""


class WorkerBusy(Exception):
    """The worker has no room for another run."""


class WorkerRefused(Exception):
    """The worker answered that it can't do this; the text says why."""


class WorkerLost(Exception):
    """The worker went away while it ran something: the outcome is not known."""


class _Connection(http.client.HTTPConnection):
    """An HTTP connection that also reaches ``unix:/path``."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._path = address[5:] if address.startswith("unix:") else None
        super().__init__("worker" if self._path else host.strip("[]"),
                         80 if self._path else int(port), timeout=_CONNECT_SECONDS)

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(_CONNECT_SECONDS)
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise

    def is_quiet(self) -> bool:
        """Tell whether the worker has neither closed it nor sent something unasked."""
        if self.sock is None:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLHUP)
        return not poll.poll(0)

    def unread(self, error: Exception) -> bool:
        """Tell whether the worker ended before it had read the whole of a request.

        A Unix socket that is closed with bytes unread resets its peer; one that had read
        everything ends with an ordinary end of file. On TCP a reset may mean more than that.
        """
        return (self._path is not None and isinstance(error, ConnectionResetError)
                and not isinstance(error, http.client.RemoteDisconnected))


class Wire:
    """Connections of this process to all its workers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[_Connection]] = defaultdict(list)

    def execute(self, worker: Worker, request: dict[str, Any], seconds: float,
                on_log: Callable[[bytes], None]) -> dict[str, Any]:
        """Run something on a worker; hand over what it prints as it comes.

        :param seconds: how long the worker may be silent.
        :returns: the result frame of the protocol.
        :raises WorkerUnreachable: nothing was started.
        :raises WorkerBusy: no room.
        :raises WorkerRefused: it is not the worker for this.
        :raises WorkerLost: the worker died on the way, or went silent.
        """
        headers = {"Accept": STREAM, "Content-Type": "application/json"}
        connection, response = self._send(worker, "POST", "/execute", headers,
                                          json.dumps(request).encode(), seconds, once=True)
        faultpoint.reach("posted")
        try:
            if response.status != 200:
                _refused(response)
            result = _read_run(response, on_log)
            response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise WorkerLost(f"{type(error).__name__} while it ran") from error
        except BaseException:
            connection.close()
            raise
        self._keep(worker, connection)
        return result

    def specialize(self, worker: Worker, package: BinaryIO, size: int, spec: dict[str, Any],
                   seconds: float) -> None:
        """Push a function's package to a generic worker.

        :raises WorkerRefused: the package or the worker is not right.
        :raises WorkerUnreachable: it could not be reached.
        """
        headers = {"Content-Type": "application/zip", "Content-Length": str(size),
                   "X-Worker-Spec": json.dumps(spec)}
        self._call(worker, "POST", "/specialize", headers, package, seconds)

    def ping(self, worker: Worker) -> dict[str, Any]:
        """Ask a worker how it is."""
        return self._call(worker, "GET", "/ping", {}, None, _CONNECT_SECONDS)

    def cancel(self, worker: Worker, execution_id: str) -> bool:
        """End a run with everything it started; no error when it is not there.

        :returns: False when the worker did not answer: it is gone, or it hangs.
        """
        try:
            self._call(worker, "POST", f"/cancel/{execution_id}", {"Content-Length": "0"}, None,
                       _CANCEL_SECONDS)
        except WorkerRefused:
            return True
        except (WorkerUnreachable, WorkerLost):
            return False
        return True

    def is_gone(self, worker: Worker) -> bool:
        """Tell whether a local worker's process has ended: nobody holds its socket any more.

        Of one that is reached through a network that can't be told from here.
        """
        address = worker.address or ""
        if not address.startswith("unix:"):
            return False
        connection = _Connection(address)
        try:
            connection.connect()
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
        connection.close()
        return False

    def forget(self, worker: Worker) -> None:
        """Close the connections to a worker that is going away."""
        with self._lock:
            connections = self._idle.pop(worker.address or "", [])
        for connection in connections:
            connection.close()

    def _call(self, worker: Worker, method: str, path: str, headers: dict[str, str],
              body: Any, seconds: float) -> dict[str, Any]:
        connection, response = self._send(worker, method, path, headers, body, seconds)
        try:
            if response.status != 200:
                _refused(response)
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise WorkerUnreachable(_plain(error)) from error
        except BaseException:
            connection.close()
            raise
        self._keep(worker, connection)
        return answer

    def _send(self, worker: Worker, method: str, path: str, headers: dict[str, str], body: Any,
              seconds: float, once: bool = False) -> tuple[_Connection,
                                                          http.client.HTTPResponse]:
        """Send a request, on a kept connection if that is still good.

        :param once: it must not be carried out twice. A worker that goes away after it got the
            request may have begun; that is no reason to send it again.
        """
        assert worker.address is not None
        headers = {"Authorization": f"Bearer {worker.secret}", **headers}
        kept = self._take_kept(worker.address)
        candidates = [kept, None] if kept is not None and _repeatable(body) else [kept]
        for candidate in candidates:
            used, sent = candidate or _Connection(worker.address), False
            try:
                used.request(method, path, body=body, headers=headers)
                sent = True
                assert used.sock is not None
                used.sock.settimeout(seconds)
                return used, used.getresponse()
            except (OSError, http.client.HTTPException) as error:
                used.close()
                if once and sent and not used.unread(error):
                    raise WorkerLost(f"{type(error).__name__} before it answered") from error
                if candidate is None or not isinstance(error, ConnectionError):
                    raise WorkerUnreachable(_plain(error)) from error
        raise WorkerUnreachable("the connection was closed")

    def _take_kept(self, address: str) -> _Connection | None:
        """Return a connection from earlier that the worker has not closed meanwhile."""
        while True:
            with self._lock:
                kept = self._idle[address]
                if not kept:
                    return None
                connection = kept.pop()
            if connection.is_quiet():
                return connection
            connection.close()

    def _keep(self, worker: Worker, connection: _Connection) -> None:
        with self._lock:
            self._idle[worker.address or ""].append(connection)


def _plain(error: Exception) -> str:
    """Return what users may read of a failed call: it ends up in records."""
    LOG.debug("A call of a worker failed: %r", error)
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, OSError):
        return "it can't be reached"
    return "its answer makes no sense"


def _repeatable(body: Any) -> bool:
    return body is None or isinstance(body, bytes)


def _refused(response: http.client.HTTPResponse) -> None:
    try:
        text = str(json.loads(response.read()).get("error", response.reason))
    except (ValueError, AttributeError):
        text = response.reason
    if response.status == 429:
        raise WorkerBusy(text)
    raise WorkerRefused(text)


def _read_run(response: http.client.HTTPResponse,
              on_log: Callable[[bytes], None]) -> dict[str, Any]:
    """Read frames up to the result."""
    while True:
        head = response.read(_FRAME.size)
        if len(head) < _FRAME.size:
            raise http.client.IncompleteRead(head)
        kind, size = _FRAME.unpack(head)
        payload = response.read(size)
        if len(payload) < size:
            raise http.client.IncompleteRead(payload)
        if kind == b"R":
            result: dict[str, Any] = json.loads(payload)
            return result
        on_log(payload)
