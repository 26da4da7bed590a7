# SPDX-License-Identifier: Apache-2.0
"""A cluster's API that is not one: it gives out copies of a pod that a real cluster described.

It knows what an engine that does nothing asks for: pods in pages, a watch with bookmarks and
changes, and whatever is written, which it accepts and forgets.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

#: Between bookmarks, in seconds: the real API server sends one in a minute.
_BOOKMARK_SECONDS = 60.0


class RecordedPods:
    """Listens on a port of its own.

    :param pod: as the real API gave it, with everything in it.
    :param count: of copies, each with a name and a uid of its own.
    :param changes: of pods in a second, told to watches.
    """

    def __init__(self, pod: dict[str, Any], count: int, changes: float = 0.0) -> None:
        self.pods = [_copy(pod, number) for number in range(count)]
        self.changes = changes
        self._version = count
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def kubeconfig(self, folder: Path) -> Path:
        """Write a file that leads here."""
        path, port = folder / "recorded", self._server.server_address[1]
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}), "utf-8")
        return path

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def page(self, limit: int, begin: int) -> dict[str, Any]:
        """Return a part of the list of pods."""
        metadata = {"resourceVersion": str(self._version)}
        if begin + limit < len(self.pods):
            metadata["continue"] = str(begin + limit)
        return {"kind": "PodList", "apiVersion": "v1", "metadata": metadata,
                "items": self.pods[begin:begin + limit]}

    def event(self, kind: str, number: int = 0) -> dict[str, Any]:
        """Return what a watch tells: a bookmark, or a change of a pod."""
        with self._lock:
            self._version += 1
            version = str(self._version)
        if kind == "BOOKMARK":
            return {"type": kind, "object": {"kind": "Pod", "apiVersion": "v1", "metadata": {
                "resourceVersion": version, "creationTimestamp": None}, "spec": {}}}
        pod = self.pods[number % len(self.pods)]
        pod["metadata"]["resourceVersion"] = version
        return {"type": kind, "object": pod}


def _copy(pod: dict[str, Any], number: int) -> dict[str, Any]:
    made = copy.deepcopy(pod)
    made["metadata"] |= {"name": f"{pod['metadata']['name']}-{number}", "uid": str(uuid.uuid4()),
                         "resourceVersion": str(number)}
    return made


class _Handler(BaseHTTPRequestHandler):
    api: RecordedPods
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer a list or a watch."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if query.get("watch") == "true":
            with contextlib.suppress(OSError):  # the engine has ended
                self._watch(float(query["timeoutSeconds"]))
        elif url.path.endswith("/pods"):
            self._answer(self.api.page(int(query["limit"]), int(query.get("continue", "0"))))
        else:
            self._answer({"kind": "List", "items": [], "status": {}})

    def do_PATCH(self) -> None:
        """Accept what is written."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer({})

    do_POST = do_DELETE = do_PATCH

    def _answer(self, found: dict[str, Any]) -> None:
        text = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _watch(self, seconds: float) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        until, told, number = time.monotonic() + seconds, time.monotonic(), 0
        pause = 1 / self.api.changes if self.api.changes else 1.0
        while time.monotonic() < until:
            time.sleep(pause)
            if self.api.changes:
                self._tell(self.api.event("MODIFIED", number))
                number += 1
            if time.monotonic() - told > _BOOKMARK_SECONDS:
                told = time.monotonic()
                self._tell(self.api.event("BOOKMARK"))
        self.wfile.write(b"0\r\n\r\n")

    def _tell(self, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
