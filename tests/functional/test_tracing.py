# SPDX-License-Identifier: Apache-2.0
"""Spans of a running service, written to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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
