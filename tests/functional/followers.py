# SPDX-License-Identifier: Apache-2.0
"""Functions that print what they are told, and clients that follow their logs."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import requests

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.ledger import HOST

#: Prints what it is told over TCP, with the time of printing when asked for.
TALKER = '''
import os
import socket


def main(port, **kwargs):
    with socket.create_connection(("HOST", port)) as told, told.makefile("rb") as lines:
        for line in lines:
            if line == b"end\\\\n":
                break
            os.write(1, line)
    return "done"
'''.replace("\\\\n", "\\n").replace("HOST", HOST)


#: What a test has left open.
OPEN: list[Following | Talk] = []


class Talk:
    """Tells a running function what to print.

    :param function: that of :data:`TALKER` when it is there already.
    """

    def __init__(self, api: Api, function: str = "", **fields: Any) -> None:
        with socket.create_server((HOST, 0)) as server:
            server.settimeout(30)
            made = api.run(function or api.function(TALKER, timeout="120"),
                           {"port": server.getsockname()[1]}, sync=False, **fields)
            self.id = str(made["id"])
            self._line = server.accept()[0]
        OPEN.append(self)

    def close(self) -> None:
        """Say nothing more: the function returns."""
        self._line.close()

    def say(self, data: bytes) -> None:
        """Have bytes printed; they must end with a newline."""
        self._line.sendall(data)

    def end(self) -> None:
        """Let the function return."""
        self._line.sendall(b"end\n")
        self._line.close()


class Following:
    """A client that follows a log in a thread of its own.

    :param api: as whom.
    """

    def __init__(self, api: Api, execution_id: str, **headers: str) -> None:
        self.data = b""
        self.broken = False
        self.reply = requests.get(
            f"{api.url}/v1/executions/{execution_id}/log?follow=true", stream=True, timeout=60,
            verify=api.session.verify, headers={**api.headers, "Accept": "text/plain", **headers})
        self.headers = self.reply.headers
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        OPEN.append(self)

    def close(self) -> None:
        """Go away."""
        with contextlib.suppress(OSError, AttributeError):  # it has ended already
            self.reply.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self.reply.close()

    def _read(self) -> None:
        try:
            # Not stream(): of a reply without chunks that waits for so many bytes.
            while data := self.reply.raw._fp.read1(1 << 16):
                self.data += data
        except Exception:
            self.broken = True

    def has(self, data: bytes, seconds: float = 20) -> None:
        """Wait until exactly these bytes have come."""
        processes.wait_for(lambda: len(self.data) >= len(data), seconds)
        assert self.data == data

    def done(self, seconds: float = 20) -> bytes:
        """Wait for the end of the stream, and return all of it."""
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        return self.data
