# SPDX-License-Identifier: Apache-2.0
"""Spans of what is done for a request, in one trace over all processes.

The trace's id is the request's: whoever works for an execution knows that from its record, and
so nothing else needs to travel with it. Nothing in a span is input, output, a header or a secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from oslo_config import cfg

from qinling_exec import exceptions, version

_tracer: _Tracer | None = None


def install(conf: cfg.ConfigOpts, process: str) -> None:
    """Trace from now on, if that is wanted.

    :param process: what the process is called, ``api`` or ``engine``.
    :raises qinling_exec.exceptions.InputError: what it needs is not installed.
    """
    global _tracer
    if conf.tracing.exporter == "none" or _tracer is not None:
        return
    try:
        _tracer = _Tracer(_exporter(conf), process)
    except ImportError as error:
        raise exceptions.InputError("[tracing] exporter needs OpenTelemetry: install"
                                    " qinling-exec[tracing].") from error


def uninstall() -> None:
    """Send what is left, and trace no more."""
    global _tracer
    tracer, _tracer = _tracer, None
    if tracer is not None:
        tracer.provider.shutdown()


@contextlib.contextmanager
def request(request_id: str, name: str) -> Iterator[dict[str, Any]]:
    """Trace a request; attributes may be added to what this gives."""
    attributes: dict[str, Any] = {}
    if _tracer is None:
        yield attributes
        return
    with _tracer.span(name, request_id, "SERVER", root=True) as span:
        try:
            yield attributes
        finally:
            span.set_attributes(attributes)


@contextlib.contextmanager
def work(name: str, request_id: str | None, **attributes: Any) -> Iterator[None]:
    """Trace a piece of work for a request, which may have been made elsewhere."""
    if _tracer is None or request_id is None:
        yield
        return
    with _tracer.span(name, request_id, "INTERNAL") as span:
        span.set_attributes(attributes)
        yield


def waited(name: str, request_id: str | None, since: datetime, **attributes: Any) -> None:
    """Tell of a time in which something waited, until now."""
    if _tracer is not None and request_id is not None:
        began = int(since.replace(tzinfo=UTC).timestamp() * 1e9)
        with _tracer.span(name, request_id, "INTERNAL", start_time=began) as span:
            span.set_attributes(attributes)


class _Tracer:
    """What is made of OpenTelemetry's parts, which are loaded only when they are wanted."""

    def __init__(self, exporter: Any, process: str) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider, export, id_generator

        local = threading.local()

        class Ids(id_generator.RandomIdGenerator):
            """Gives the first span of a request the ids that its request id means."""

            def generate_trace_id(self) -> int:
                return int(getattr(local, "trace", None) or super().generate_trace_id())

            def generate_span_id(self) -> int:
                wanted, local.span = getattr(local, "span", None), None
                return int(wanted or super().generate_span_id())

        self._trace, self._local = trace, local
        self.provider = TracerProvider(id_generator=Ids(), resource=Resource.create({
            "service.name": f"qinling-exec-{process}", "service.version": version.VERSION}))
        self.provider.add_span_processor(export.BatchSpanProcessor(exporter))
        self._tracer = self.provider.get_tracer("qinling_exec")

    @contextlib.contextmanager
    def span(self, name: str, request_id: str, kind: str, *, root: bool = False,
             start_time: int | None = None) -> Iterator[Any]:
        """Open a span below what the thread is in, or else below the request's first one."""
        trace = self._trace
        trace_id, first = _ids(request_id)
        above = trace.get_current_span().get_span_context()
        context = None
        if root:
            self._local.trace, self._local.span = trace_id, first
            context = trace.set_span_in_context(trace.INVALID_SPAN)
        elif above.trace_id != trace_id:
            context = trace.set_span_in_context(trace.NonRecordingSpan(trace.SpanContext(
                trace_id, first, is_remote=True,
                trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))))
        with self._tracer.start_as_current_span(
                name, context, kind=trace.SpanKind[kind], start_time=start_time,
                record_exception=False, set_status_on_exception=False) as made:
            self._local.trace = None
            yield made


def _ids(request_id: str) -> tuple[int, int]:
    """Return the ids of a request's trace and of its first span."""
    identity = uuid.UUID(request_id.removeprefix("req-"))
    digest = hashlib.sha256(identity.bytes).digest()
    return identity.int, int.from_bytes(digest[:8], "big") or 1


def _exporter(conf: cfg.ConfigOpts) -> Any:
    from opentelemetry.sdk.trace import export

    if conf.tracing.exporter == "file":
        class ToFile(export.ConsoleSpanExporter):
            """Appends to a file, and closes it at the end."""

            def shutdown(self) -> None:
                self.out.close()

        output = open(conf.tracing.file, "a", buffering=1, encoding="utf8")  # noqa: SIM115
        return ToFile(out=output, formatter=lambda span: str(span.to_json(indent=None)) + "\n")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=conf.tracing.endpoint)
