# SPDX-License-Identifier: Apache-2.0
"""The worker: an HTTP server that runs one function, as often as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import time
from functools import partial
from typing import Any

from qinling_exec.runtime import ending, journal, messages, spec
from qinling_exec.runtime.function import Function
from qinling_exec.runtime.isolation import Isolation
from qinling_exec.runtime.leftovers import Leftovers
from qinling_exec.runtime.messages import Reader, Refused, Request
from qinling_exec.runtime.runs import Run
from qinling_exec.runtime.secret import Secret

LOG = logging.getLogger("qinling_exec.runtime")
STREAM = "application/vnd.qinling.run"
_BODY = 64 * 1024 * 1024
#: How much of a refused request's body is read for the sake of its reply.
_SWALLOW = 128 * 1024 * 1024


class Server:
    """Serves the worker protocol.

    :param secret: bearer secret of every request but /ping; empty: the first /specialize brings
        it.
    :param room: runs at the same time, unless /specialize says something else.
    :param shared: directories of this worker alone in which its runs may leave something.
    """

    def __init__(self, secret: str, room: int, scratch: str, isolation: Isolation,
                 shared: list[str]) -> None:
        self._secret = Secret(secret)
        self._room = room
        self._isolation = isolation
        self._function = Function(scratch, isolation)
        self._leftovers = Leftovers(shared, scratch)
        self._specialising = False
        self._runs: dict[str, Run] = {}
        self._idle_since = time.monotonic()
        self._stopping = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, listen: str, parent: int | None) -> None:
        """Serve until SIGTERM, or until the parent closes its end of a pipe.

        :param listen: ``unix:/path`` or ``host:port``.
        :param parent: descriptor of that pipe.
        """
        loop = asyncio.get_running_loop()
        ending.watch(self._stopping.set)
        self._function.start()
        loop.add_signal_handler(signal.SIGCHLD, self._function.reap)
        path = listen[5:] if listen.startswith("unix:") else None
        if path is not None:
            server = await loop.create_unix_server(self._protocol, path)
        else:
            host, _, port = listen.rpartition(":")
            server = await loop.create_server(self._protocol, host.strip("[]") or None, int(port))
        if parent is not None:
            loop.add_reader(parent, self._abandon, path)
        LOG.info("listening on %s, isolation %s", listen, self._isolation.report())
        await self._stopping.wait()
        server.close()
        while self._runs:
            await asyncio.sleep(0.05)
        self._end(path)

    def _abandon(self, path: str | None) -> None:
        """The engine is dead: nobody waits for anything here."""
        self._end(path)
        os._exit(0)

    def _end(self, path: str | None) -> None:
        self._function.close()
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        reader = Reader(limit=messages.LIMIT)
        return asyncio.StreamReaderProtocol(reader, self._connected)

    async def _connected(self, reader: asyncio.StreamReader,
                         writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, Reader)
        _notice_loss(writer)
        try:
            while await self._serve_one(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception:
            LOG.exception("a request failed")
            messages.reply(writer, 500, {"error": "The worker failed."}, last=True)
        finally:
            writer.close()

    async def _serve_one(self, reader: Reader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; tell whether there may be another one."""
        request = None
        try:
            request = await messages.read_request(reader, writer)
            if request is None:
                return False
            await self._answer(request, writer)
        except Refused as error:
            last = request is None or request.unread
            messages.reply(writer, error.code, {"error": str(error)}, last)
            if last:
                # Closed with its body unread, the client might never see the reply.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(_swallow(reader), 10)
                return False
        return True

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/ping":
            messages.reply(writer, 200, self._state())
            return
        if request.path != "/specialize" or request.method != "POST" or self._secret.known:
            self._secret.check(request.headers.get("authorization", ""))
        if request.path == "/specialize":
            _check_method(request)
            await self._specialize(request)
            messages.reply(writer, 200, {"status": "ready"})
        elif request.path == "/execute":
            _check_method(request)
            await self._execute(request, writer)
        elif request.path.startswith("/cancel/"):
            _check_method(request)
            await request.body(_BODY)
            await self._cancel(request.path[len("/cancel/"):])
            messages.reply(writer, 200, {"status": "cancelled"})
        else:
            raise Refused(404, "There is nothing at this path.")

    def _state(self) -> dict[str, Any]:
        given = self._function.spec
        idle = 0.0 if self._runs else time.monotonic() - self._idle_since
        return {
            "status": "generic" if given is None else "ready",
            "function_id": given.function_id if given else None,
            "function_version": given.function_version if given else None,
            "room": self._room, "running": len(self._runs), "idle_seconds": round(idle, 3),
            "isolation": self._isolation.report(), "pid": os.getpid(),
        }

    async def _specialize(self, request: Request) -> None:
        given = spec.read(request.headers.get("x-worker-spec", ""), self._room)
        if self._specialising:
            raise Refused(409, "This worker has a function already.")
        self._secret.learn(request.headers.get("authorization", ""))
        self._specialising = True
        try:
            await self._function.specialize(given, request.stream())
        except BaseException:
            self._specialising = False
            raise
        self._room = given.room
        self._idle_since = time.monotonic()
        LOG.info("ready for function %s version %s", given.function_id, given.function_version)

    async def _execute(self, request: Request, writer: asyncio.StreamWriter) -> None:
        order = _order(await request.body(_BODY))
        async with self._leftovers.used():
            await self._run(order, self._check(order), request, writer)

    async def _run(self, order: dict[str, Any], given: spec.Spec, request: Request,
                   writer: asyncio.StreamWriter) -> None:
        stream = None
        log = bytearray()
        if STREAM in request.headers.get("accept", ""):
            stream = messages.Stream(writer, STREAM)
        try:
            run = Run(order, given.limits, partial(stream.send, b"L") if stream else log.extend)
        except ValueError as error:
            raise Refused(400, "The input is nested too deep.") from error
        self._runs[run.id] = run
        # The caller holds the lease of this run: without it the run must not go on.
        request.reader.on_gone = partial(run.stop, "cancelled")
        if request.reader.at_eof() or request.reader.exception() is not None:
            run.stop("cancelled")  # it went while this run waited for its turn
        try:
            await self._function.run(run)
        finally:
            request.reader.on_gone = None
            del self._runs[run.id]
            self._idle_since = time.monotonic()
        result = run.outcome()
        if result["reason"] not in (None, "exception"):
            LOG.info("execution %s ended: %s", run.id, result["reason"],
                     extra=journal.of_request(order))
        if stream:
            stream.send(b"R", json.dumps(result).encode(), last=True)
        else:
            messages.reply(writer, 200, {**result, "logs": log.decode("utf-8", "replace")})

    def _check(self, order: dict[str, Any]) -> spec.Spec:
        given = self._function.spec
        if self._stopping.is_set():
            raise Refused(503, "This worker is about to end.")
        if given is None:
            raise Refused(409, "This worker has no function yet.")
        if (order.get("function_id"), order.get("function_version")) != (
                given.function_id, given.function_version):
            raise Refused(409, "This worker runs another function.")
        if order["execution_id"] in self._runs:
            raise Refused(409, "The execution is running here already.")
        if len(self._runs) >= self._room:
            raise Refused(429, "There is no room for another run.")
        return given

    async def _cancel(self, execution_id: str) -> None:
        run = self._runs.get(execution_id)
        if run is None:
            raise Refused(404, "The execution is not running here.")
        run.stop("cancelled")
        await run.ended()


def _notice_loss(writer: asyncio.StreamWriter) -> None:
    """Have a client noticed, within half a minute, whose host went away without a word."""
    client = writer.get_extra_info("socket")
    if client.family == socket.AF_UNIX:
        return
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3),
                        ("TCP_USER_TIMEOUT", 25_000)):
        if hasattr(socket, name):
            client.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _swallow(reader: Reader) -> None:
    left = _SWALLOW
    while left > 0 and (data := await reader.read(1 << 18)):
        left -= len(data)


def _check_method(request: Request) -> None:
    if request.method != "POST":
        raise Refused(405, "POST is wanted.")


def _order(body: bytes) -> dict[str, Any]:
    try:
        order = json.loads(body)
        order["execution_id"] = str(order["execution_id"])
        order["timeout"] = float(order["timeout"])
        if 0 < order["timeout"] < 1e7:
            return dict(order)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Refused(400, "The body is no order for a run: execution_id and timeout are wanted.")
