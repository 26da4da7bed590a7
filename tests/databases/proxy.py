# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that breaks connections on demand: cut, refused, silent, slow."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

#: Sees bytes on their way to the server; True cuts the connection in place of passing them on.
Trigger = Callable[[bytes], bool]


def is_commit(data: bytes) -> bool:
    """Tell whether a packet of PostgreSQL's or MariaDB's protocol asks for a commit."""
    return b"COMMIT" in data and b"COMMITTED" not in data


class Proxy:
    """Passes connections on to a port of this host; ``host``: where others connect to.

    ::

        with Proxy(server.port) as proxy:
            url = server.through(proxy.port)
            proxy.cut()           # what is open is reset; new connections are passed on
            proxy.refuse()        # resets, now and on every new connection
            proxy.silence()       # connections stay open and nothing passes: a black hole
            proxy.delay(0.5)      # everything takes so much longer, in each direction
            proxy.heal()          # as at first; what was held back while silent is passed on
            proxy.cut_at("to_server", is_commit)   # once, before it is sent
            proxy.cut_at("answer_to", is_commit)   # once, it is carried out
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = port
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._seconds = 0.0
        self._trigger: tuple[str, Trigger] | None = None
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        #: How many connections were taken in, ever.
        self.accepted = 0
        #: Set when a cut_at() has cut.
        self.did_cut = threading.Event()
        self._listener = socket.create_server((host, 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Reset every open connection, in both directions."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()

    def refuse(self) -> None:
        """Reset what is open and what comes."""
        self._refusing = True
        self.cut()

    def silence(self) -> None:
        """Let nothing pass, in open and new connections, and tell nobody."""
        self._open.clear()

    def delay(self, seconds: float) -> None:
        """Hold everything up for so long, in each direction."""
        self._seconds = seconds

    def heal(self) -> None:
        """Be an honest proxy again."""
        self._refusing = False
        self._seconds = 0.0
        self._trigger = None
        self._open.set()

    def cut_at(self, moment: str, trigger: Trigger) -> None:
        """Cut one connection, once, when bytes to the server make ``trigger`` true.

        :param moment: ``to_server``: before those bytes are passed on; ``answer_to``: after the
            server has answered them, with the answer withheld.
        """
        assert moment in ("to_server", "answer_to")
        self.did_cut.clear()
        self._trigger = (moment, trigger)

    def close(self) -> None:
        """Stop, and end what is open."""
        self._refusing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._open.set()
        self.cut()
        self._thread.join()
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.join()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refusing:
                _reset(client)
                continue
            pair = _Pair(self, client)
            with self._lock:
                self._pairs.add(pair)
            pair.start()

    def connect(self) -> socket.socket:
        """Connect to the server."""
        return socket.create_connection(("127.0.0.1", self._target), timeout=30)

    def hold_up(self, closed: threading.Event) -> None:
        """Wait as long as bytes are held up now."""
        if self._seconds:
            time.sleep(self._seconds)
        while not self._open.wait(0.1) and not closed.is_set():
            pass

    def cuts(self, data: bytes) -> str | None:
        """Tell whether a cut was ordered for these bytes, and at which moment."""
        with self._lock:
            if self._trigger and self._trigger[1](data):
                moment, self._trigger = self._trigger[0], None
                return moment
        return None

    def gone(self, pair: _Pair) -> None:
        """Forget a pair that has ended."""
        with self._lock:
            self._pairs.discard(pair)


class _Pair:
    """A client's connection and the one to the server."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._closed = threading.Event()
        self._cut_at_answer = False
        self._threads = [threading.Thread(target=self._upstream, daemon=True)]

    def start(self) -> None:
        self._threads[0].start()

    def join(self) -> None:
        for thread in list(self._threads):
            thread.join(5)

    def reset(self) -> None:
        """End both connections so that the other side gets an error at once."""
        if not self._closed.is_set():
            self._closed.set()
            for end in (self._client, self._server):
                if end is not None:
                    _reset(end)

    def _upstream(self) -> None:
        try:
            self._proxy.hold_up(self._closed)
            self._server = self._proxy.connect()
            self._threads.append(threading.Thread(target=self._downstream, daemon=True))
            self._threads[1].start()
            while data := self._client.recv(65536):
                self._proxy.hold_up(self._closed)
                moment = self._proxy.cuts(data)
                if moment == "to_server":
                    break
                self._cut_at_answer |= moment == "answer_to"
                self._server.sendall(data)
            if not data or self._closed.is_set():
                self._finish()
            else:
                self.reset()
                self._proxy.did_cut.set()
        except OSError:
            self.reset()
        finally:
            self._finish()  # also what was opened after a reset
            if len(self._threads) > 1:
                self._threads[1].join()
            self._proxy.gone(self)

    def _downstream(self) -> None:
        assert self._server is not None
        try:
            while data := self._server.recv(65536):
                if self._cut_at_answer:
                    self.reset()
                    self._proxy.did_cut.set()
                    return
                self._proxy.hold_up(self._closed)
                self._client.sendall(data)
            self._finish()
        except OSError:
            self.reset()

    def _finish(self) -> None:
        """End both connections in the ordinary way."""
        self._closed.set()
        for end in (self._client, self._server):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Linger for no time: the peer gets RST, and reads that wait here return.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()
