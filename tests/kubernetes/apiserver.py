# SPDX-License-Identifier: Apache-2.0
"""A way to the cluster's API that notes what is asked for, and breaks when it is told to.

::

    with ApiServer(cluster) as server:
        path = server.kubeconfig(folder)           # an engine that is given this comes here
        server.answer(429, **{"Retry-After": "1"}) # in place of the cluster
        server.delay(3)                            # each answer takes so much longer
        server.hold_watches()                      # watches stay open, and nothing comes
        server.tell_watches({"type": ...})         # say something in the cluster's place
        server.repeat_list()                       # the next list is what it would be now
        server.refuse()                            # nobody listens
        server.heal()
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from qinling_exec.orchestrator.kubernetes import names
from tests.kubernetes.calls import Call
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.upstream import Upstream

_PASSED = ("Content-Type", "Accept", "User-Agent")

Matches = Callable[[Call], bool]


def anything(_call: Call) -> bool:
    """Match every request."""
    return True


@dataclass
class _Answer:
    """What is answered in the cluster's place.

    :param every: one of so many requests, 1: all.
    """

    status: int
    headers: dict[str, str]
    matches: Matches
    every: int
    times: int
    seen: int = 0


class ApiServer:
    """Listens on a port of its own, without TLS.

    :param token: who the cluster is told that the caller is; else the kubeconfig's user.
    """

    def __init__(self, cluster: Cluster, token: str | None = None) -> None:
        self.upstream = Upstream(Path(cluster.environment["KUBECONFIG"]), token)
        self._lock = threading.Lock()
        self.calls: list[Call] = []
        #: What the cluster itself answered.
        self.answered: list[tuple[Call, int]] = []
        self._answers: list[_Answer] = []
        self._seconds = 0.0
        self._stale: list[bytes] = []
        self._watches: set[_Handler] = set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self._listen()

    def kubeconfig(self, folder: Path) -> Path:
        """Write a file that leads here."""
        path = folder / "through-proxy"
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}), "utf-8")
        return path

    def since(self, moment: float) -> list[Call]:
        """Return the requests since then, without watches that are begun anew."""
        with self._lock:
            return [call for call in self.calls if call.at >= moment and call.verb != "watch"]

    def answer(self, status: int, matches: Matches = anything, every: int = 1,
               times: int = 1 << 30, **headers: str) -> None:
        """Answer what matches in the cluster's place."""
        with self._lock:
            self._answers.append(_Answer(status, headers, matches, every, times))

    def delay(self, seconds: float) -> None:
        """Let each answer take so much longer."""
        self._seconds = seconds

    def hold_watches(self) -> None:
        """Let nothing more come out of the watches that are open."""
        with self._lock:
            for watch in self._watches:
                watch.held.set()

    def tell_watches(self, event: dict[str, Any]) -> int:
        """Say something on open watches in the cluster's place; return how many there are."""
        with self._lock:
            watches = list(self._watches)
        return sum(watch.tell(event) for watch in watches)

    def end_watches(self) -> None:
        """Break off the watches that are open."""
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            watch.end()

    def repeat_list(self, namespace: str) -> None:
        """Answer the next list of a namespace's pods with what it would be now."""
        connection = self.upstream.connect()
        connection.request("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector="
                           + quote(names.SELECTOR), headers=self.upstream.authorization)
        self._stale.append(connection.getresponse().read())
        connection.close()

    def refuse(self) -> None:
        """Listen no more, and end what is open."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self.end_watches()

    def heal(self) -> None:
        """Pass everything on again."""
        with self._lock:
            self._answers.clear()
            self._stale.clear()
        self._seconds = 0.0
        if self._server is None or self._server.socket.fileno() < 0:
            self._listen()

    def __enter__(self) -> ApiServer:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._server is not None and self._server.socket.fileno() >= 0:
            self.refuse()

    def note(self, call: Call) -> tuple[int, dict[str, str]] | bytes | None:
        """Note a request; return what is answered in the cluster's place, None: nothing."""
        time.sleep(self._seconds)
        with self._lock:
            self.calls.append(call)
            if self._stale and (call.verb, call.resource) == ("list", "pods"):
                return self._stale.pop()
            for answer in self._answers:
                if answer.times > 0 and answer.matches(call):
                    answer.seen += 1
                    if answer.seen % answer.every == 0:
                        answer.times -= 1
                        return answer.status, answer.headers
        return None

    def created(self, call: Call) -> None:
        """Note that a request has made an object."""
        with self._lock:
            self.calls.append(replace(call, verb="create"))

    def watching(self, watch: _Handler, there: bool) -> None:
        """Note that a watch is open, or no more."""
        with self._lock:
            (self._watches.add if there else self._watches.discard)(watch)

    def _listen(self) -> None:
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: callers break off."""


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.held = threading.Event()
        self._writing = threading.Lock()
        self.watches = False  # else it follows a log

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Break off."""
        with contextlib.suppress(OSError):  # the other side did
            self.connection.shutdown(socket.SHUT_RDWR)

    def tell(self, event: dict[str, Any]) -> bool:
        """Say something if this is a watch; tell whether that is so, and it is still open."""
        if not self.watches:
            return False
        try:
            self.send_chunk(json.dumps(event).encode() + b"\n")
        except OSError:
            return False
        return True

    def do_GET(self) -> None:
        """Pass a request on, or answer it."""
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else None
        call = Call.of(self.command, self.path)
        answer = self.api.note(call)
        if isinstance(answer, bytes):
            self._answer(200, {}, answer)
        elif answer is not None:
            status, headers = answer
            self._answer(status, headers, json.dumps({
                "kind": "Status", "code": status, "message": "as the test asked for"}).encode())
        else:
            self._pass_on(call, body)

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET

    def _pass_on(self, call: Call, body: bytes | None) -> None:
        upstream = self.api.upstream.connect()
        try:
            headers = {name: self.headers[name] for name in _PASSED if name in self.headers}
            upstream.request(self.command, self.path, body,
                             {**headers, **self.api.upstream.authorization})
            response = upstream.getresponse()
            if response.status == 201:  # an apply that creates needs that right as well
                self.api.created(call)
            self.api.answered.append((call, response.status))
            self.watches = call.verb == "watch"
            if (self.watches or call.resource == "pods/log") and response.status == 200:
                self._stream(response)
            else:
                self._answer(response.status, {}, response.read())
        finally:
            upstream.close()

    def _answer(self, status: int, headers: dict[str, str], text: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers,
                            "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, response: http.client.HTTPResponse) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.api.watching(self, there=True)
        try:
            for piece in _pieces(response):
                if not self.held.is_set():
                    self.send_chunk(piece)
            self.send_chunk(b"")
        finally:
            self.api.watching(self, there=False)
            self.close_connection = True

    def send_chunk(self, data: bytes) -> None:
        """Send a part of what is streamed; an empty one ends it."""
        with self._writing:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := response.read1(2**16):
        yield piece
