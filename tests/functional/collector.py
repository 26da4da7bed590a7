# SPDX-License-Identifier: Apache-2.0
"""A collector of OpenTelemetry: takes spans, OTLP over HTTP in protobuf."""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Span:
    """One span; times are in nanoseconds, ids in hexadecimal."""

    process: str
    name: str
    trace: str
    id: str
    parent: str
    kind: str
    start: int
    end: int
    attributes: dict[str, str]


class Collector:
    """What was received so far, as it came and decoded."""

    def __init__(self) -> None:
        self.received = b""
        self.spans: list[Span] = []
        self.refuses = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.collector = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        self._thread: threading.Thread | None = threading.Thread(
            target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace."""
        return [span for span in self.spans if span.trace == trace_id]

    def take(self, body: bytes) -> None:
        """Decode a request. :raises google.protobuf.message.DecodeError: it is none."""
        self.received += body
        for group in service.ExportTraceServiceRequest.FromString(body).resource_spans:
            process = _plain(group.resource.attributes)["service.name"]
            self.spans += [Span(
                process, span.name, span.trace_id.hex(), span.span_id.hex(),
                span.parent_span_id.hex(), trace_pb2.Span.SpanKind.Name(span.kind),
                span.start_time_unix_nano, span.end_time_unix_nano, _plain(span.attributes),
            ) for scope in group.scope_spans for span in scope.spans]

    def close(self) -> None:
        """Go away."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
            self._server.server_close()


def _plain(attributes: Any) -> dict[str, str]:
    """Return attributes with their values as text, whatever their type."""
    return {item.key: str(getattr(item.value, item.value.WhichOneof("value")))
            for item in attributes}


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.headers["Content-Type"] == "application/x-protobuf"
        self.server.collector.take(body)
        answer = service.ExportTraceServiceResponse().SerializeToString()
        self.send_response(503 if self.server.collector.refuses else 200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""
