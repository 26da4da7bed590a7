# SPDX-License-Identifier: Apache-2.0
"""A ledger that the service does not know: functions write to it themselves, over TCP."""

from __future__ import annotations

import os
import socketserver
import threading
from typing import Any

#: Address at which functions reach this machine, where they do not run on it.
FAR = os.environ.get("QINLING_EXEC_TEST_HOST")
HOST = FAR or "127.0.0.1"

#: Text of functions that write to the ledger and then wait there until they may go on.
MODULE = '''
import socket


def main(port, word="run", wait=False, **kwargs):
    with socket.create_connection(("HOST", port)) as ledger:
        ledger.sendall(("%s %s\\n" % ("wait" if wait else "go", word)).encode())
        ledger.recv(1)
    return "done"
'''.replace("HOST", HOST)


class Ledger:
    """Lines that functions wrote, in the order of their coming."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.gate = threading.Event()
        self._server = _Server((HOST, 0), _Handler)
        self._server.ledger = self
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Let everybody go on and end."""
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256
    ledger: Ledger


class _Handler(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        how, _, word = self.rfile.readline().decode().strip().partition(" ")
        self.server.ledger.lines.append(word)
        if how == "wait":
            self.server.ledger.gate.wait(120)
