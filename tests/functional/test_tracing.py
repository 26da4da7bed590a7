# SPDX-License-Identifier: Apache-2.0
"""Spans of a running service, written to a file and sent to a collector."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional import processes
from tests.functional.collector import Collector
from tests.functional.deployment import Deployment
from tests.functional.running import Running


def test_one_trace_from_the_request_to_the_worker(start_service: Callable[..., Running],
                                                  tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    running = start_service(settings=f"[tracing]\nexporter = file\nfile = {path}\n")
    caller = running.api()
    function = caller.function("def main(word):\n    print(word)\n    return word\n")
    done = [caller.run(function, {"word": "hush"}) for _ in range(2)]  # queued, then direct
    caller.close()
    assert running.stop() == 0, running.log[-3000:]
    text = path.read_text()
    spans = [json.loads(line) for line in text.splitlines()]
    for execution, names in zip(done, ({"queue", "run", "worker"}, {"run", "worker"}),
                                strict=True):
        trace = "0x" + execution["request_id"].removeprefix("req-").replace("-", "")
        mine = {span["name"]: span for span in spans if span["context"]["trace_id"] == trace}
        assert set(mine) == {"POST /v1/executions", *names}
        first = mine["POST /v1/executions"]
        assert first["attributes"]["http.response.status_code"] == 201
        assert mine["run"]["attributes"]["execution_id"] == execution["id"]
        assert mine["worker"]["parent_id"] == mine["run"]["context"]["span_id"]
    assert "hush" not in text


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    # OpenTelemetry's own, in milliseconds and seconds: they gather for 5 s and try for 10 s.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "300")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    opened = Collector()
    yield opened
    opened.close()


def test_one_trace_over_otlp_from_the_request_to_the_run(
        deploy: Callable[..., Deployment], collector: Collector) -> None:
    """The spans of two processes, decoded by OpenTelemetry's own protocol."""
    deployment = deploy(settings={"tracing": {"exporter": "otlp", "endpoint": collector.url}})
    caller = deployment.api()
    function = caller.function("def main(word):\n    print(word)\n    return word\n")
    made = caller.run(function, {"word": "hush"}, sync=False)
    assert caller.ended(made["id"])["status"] == "success"
    trace = made["request_id"].removeprefix("req-").replace("-", "")
    assert processes.wait_for(lambda: len(collector.trace(trace)) == 4, 20), collector.spans
    spans = {span.name: span for span in collector.trace(trace)}
    first, queue, run, worker = (
        spans[name] for name in ("POST /v1/executions", "queue", "run", "worker"))
    assert {name: span.process for name, span in spans.items()} == {
        "POST /v1/executions": "qinling-exec-api", "queue": "qinling-exec-engine",
        "run": "qinling-exec-engine", "worker": "qinling-exec-engine"}
    assert (first.parent, queue.parent, run.parent, worker.parent) == (
        "", first.id, first.id, run.id)
    assert (first.kind, run.kind) == ("SPAN_KIND_SERVER", "SPAN_KIND_INTERNAL")
    assert first.attributes["http.response.status_code"] == "201"
    assert run.attributes["execution_id"] == made["id"]
    assert first.start <= queue.start <= queue.end <= run.end
    assert run.start <= worker.start < worker.end <= run.end
    assert b"hush" not in collector.received


def test_a_collector_that_is_away_disturbs_nothing(start_service: Callable[..., Running],
                                                   collector: Collector) -> None:
    """Neither one that refuses everything, nor one that is not there at the end."""
    collector.refuses = True
    running = start_service(settings=f"[tracing]\nexporter = otlp\nendpoint = {collector.url}\n")
    caller = running.api()
    function = caller.function()
    assert caller.run(function)["status"] == "success"
    assert processes.wait_for(lambda: collector.received, 20)
    collector.close()
    assert caller.run(function)["status"] == "success"
    caller.close()
    assert running.stop() == 0, running.log[-3000:]
