# SPDX-License-Identifier: Apache-2.0
"""The worker: an HTTP server that runs one function, as often as it is told to."""

import asyncio
import contextlib
import hmac
import json
import logging
import os
import signal
import time
from typing import Any, Callable, Dict, Optional

from qinling_exec.runtime import messages
from qinling_exec.runtime.function import Function
from qinling_exec.runtime.isolation import Isolation
from qinling_exec.runtime.messages import Refused, Request
from qinling_exec.runtime.runs import Run

LOG = logging.getLogger("qinling_exec.runtime")
STREAM = "application/vnd.qinling.run"
_BODY = 64 * 1024 * 1024


class Server:
    """Serves the worker protocol.

    :param secret: bearer secret of every request but /ping.
    :param room: runs at the same time.
    """

    def __init__(self, secret: str, room: int, scratch: str, isolation: Isolation) -> None:
        self._secret = secret
        self._room = room
        self._isolation = isolation
        self._function = Function(scratch, isolation)
        self._specialising = False
        self._runs: Dict[str, Run] = {}
        self._idle_since = time.monotonic()
        self._stopping = asyncio.Event()
        self._connections = 0

    async def serve(self, listen: str, parent: Optional[int]) -> None:
        """Serve until SIGTERM, or until the parent closes its end of a pipe.

        :param listen: ``unix:/path`` or ``host:port``.
        :param parent: descriptor of that pipe.
        """
        loop = asyncio.get_running_loop()
        self._function.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        if parent is not None:
            loop.add_reader(parent, self._abandon)
        if listen.startswith("unix:"):
            server = await asyncio.start_unix_server(self._connected, listen[5:],
                                                     limit=messages.LIMIT)
        else:
            host, _, port = listen.rpartition(":")
            server = await asyncio.start_server(self._connected, host.strip("[]") or None,
                                                int(port), limit=messages.LIMIT)
        LOG.info("listening on %s, isolation %s", listen, self._isolation.report())
        await self._stopping.wait()
        server.close()
        while self._runs:
            await asyncio.sleep(0.05)
        self._function.close()

    def _abandon(self) -> None:
        """The engine is dead: nobody waits for anything here."""
        for run in list(self._runs.values()):
            run.stop("cancelled")
        self._function.close()
        os._exit(0)

    def _on_child(self) -> None:
        self._function.reap({run.supervisor for run in self._runs.values()
                             if run.supervisor is not None})

    async def _connected(self, reader: asyncio.StreamReader,
                         writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                try:
                    request = await messages.read_request(reader)
                    if request is None:
                        return
                    await self._answer(request, writer)
                except Refused as error:
                    messages.reply(writer, error.code, {"error": str(error)})
                    if error.code in (400, 401, 413):
                        await writer.drain()
                        return  # the rest of the connection may be a body that nobody reads
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception:
            LOG.exception("a request failed")
            messages.reply(writer, 500, {"error": "The worker failed."})
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/ping" and request.method == "GET":
            messages.reply(writer, 200, self._state())
            return
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, b"Bearer " + self._secret.encode()):
            raise Refused(401, "The secret is missing or wrong.")
        if request.method != "POST":
            raise Refused(405, "POST is wanted.")
        if request.path == "/specialize":
            await self._specialize(request)
            messages.reply(writer, 200, {"status": "ready"})
        elif request.path == "/execute":
            await self._execute(request, writer)
        elif request.path.startswith("/cancel/"):
            await request.body(_BODY)
            await self._cancel(request.path[len("/cancel/"):])
            messages.reply(writer, 200, {"status": "cancelled"})
        else:
            raise Refused(404, "There is nothing at this path.")

    def _state(self) -> Dict[str, Any]:
        spec = self._function.spec
        idle = 0.0 if self._runs else time.monotonic() - self._idle_since
        return {
            "status": "ready" if self._function.ready else "generic",
            "function_id": spec.get("function_id"),
            "function_version": spec.get("function_version"),
            "room": self._room, "running": len(self._runs), "idle_seconds": round(idle, 3),
            "isolation": self._isolation.report(), "pid": os.getpid(),
        }

    async def _specialize(self, request: Request) -> None:
        if self._specialising:
            raise Refused(409, "This worker has a function already.")
        self._specialising = True
        try:
            spec = json.loads(request.headers.get("x-worker-spec", ""))
            await self._function.specialize(spec, request.stream())
        except ValueError as error:
            self._specialising = False
            raise Refused(400, "X-Worker-Spec is not valid: %s" % error) from error
        except BaseException:
            self._specialising = False
            raise
        self._room = int(spec.get("room") or self._room)
        self._idle_since = time.monotonic()

    async def _execute(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            order = json.loads(await request.body(_BODY))
            execution_id = str(order["execution_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(400, "The body is no order for a run.") from error
        self._check(order, execution_id)
        streamed = STREAM in request.headers.get("accept", "")
        log = bytearray()
        on_log: Callable[[bytes], None] = log.extend
        if streamed:
            messages.begin_stream(writer, STREAM)

            def on_log(data: bytes) -> None:
                messages.send_frame(writer, b"L", data)

        run = Run(order, self._function.limits, on_log)
        self._runs[execution_id] = run
        try:
            result = await self._finish(run, request.reader)
        finally:
            del self._runs[execution_id]
            self._idle_since = time.monotonic()
        if streamed:
            messages.send_frame(writer, b"R", json.dumps(result).encode())
            messages.end_stream(writer)
        else:
            messages.reply(writer, 200, {**result, "logs": log.decode("utf-8", "replace")})

    def _check(self, order: Dict[str, Any], execution_id: str) -> None:
        spec = self._function.spec
        if self._stopping.is_set():
            raise Refused(503, "This worker is about to end.")
        if not self._function.ready:
            raise Refused(409, "This worker has no function yet.")
        for name in ("function_id", "function_version"):
            if order.get(name) != spec.get(name):
                raise Refused(409, "This worker runs another function.")
        if execution_id in self._runs:
            raise Refused(409, "The execution is running here already.")
        if len(self._runs) >= self._room:
            raise Refused(429, "There is no room for another run.")

    async def _finish(self, run: Run, reader: asyncio.StreamReader) -> Dict[str, Any]:
        """Bring a run to its end; it is ended when the client goes away."""
        await self._function.order(run)
        outcome = asyncio.ensure_future(run.outcome())
        gone = asyncio.ensure_future(_closed(reader))
        try:
            await asyncio.wait({outcome, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not outcome.done():
                run.stop("cancelled")
            return await outcome
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _cancel(self, execution_id: str) -> None:
        run = self._runs.get(execution_id)
        if run is None:
            raise Refused(404, "The execution is not running here.")
        run.stop("cancelled")
        await run.outcome()


async def _closed(reader: asyncio.StreamReader) -> None:
    """Return when the client has closed its side: it sends nothing while a run goes on."""
    while not reader.at_eof():
        if await reader.read(1):
            return
