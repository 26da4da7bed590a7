# SPDX-License-Identifier: Apache-2.0
"""One trace from the request to the run, over processes that share nothing but its id."""

import json
import uuid
from datetime import timedelta

import pytest

from qinling_exec import tracing
from qinling_exec.db.engine import utcnow


@pytest.fixture
def spans(conf, tmp_path):
    """Trace into a file; return the spans by name, once they are all there."""
    path = tmp_path / "spans.jsonl"
    conf.set_override("exporter", "file", "tracing")
    conf.set_override("file", str(path), "tracing")
    tracing.install(conf, "api")

    def read():
        tracing.uninstall()
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return {span["name"]: span for span in found}

    yield read
    tracing.uninstall()


def test_one_trace_over_processes(spans):
    request_id = f"req-{uuid.uuid4()}"
    with tracing.request(request_id, "POST /v1/executions") as attributes:
        with tracing.work("in the API", request_id):
            pass
        attributes["http.response.status_code"] = 201
    # An engine knows the id from the record.
    tracing.waited("queue", request_id, utcnow() - timedelta(seconds=3))
    with tracing.work("run", request_id, attempt=1), tracing.work("worker", request_id):
        pass
    found = spans()
    trace = "0x" + request_id.removeprefix("req-").replace("-", "")
    assert {span["context"]["trace_id"] for span in found.values()} == {trace}
    first = found["POST /v1/executions"]
    assert first["parent_id"] is None
    assert first["attributes"] == {"http.response.status_code": 201}
    for name in ("in the API", "queue", "run"):
        assert found[name]["parent_id"] == first["context"]["span_id"], name
    assert found["worker"]["parent_id"] == found["run"]["context"]["span_id"]
    assert len({span["context"]["span_id"] for span in found.values()}) == 5


def test_requests_one_after_the_other_have_traces_of_their_own(spans):
    ids = [f"req-{uuid.uuid4()}" for _ in range(2)]
    for number, request_id in enumerate(ids):
        with tracing.request(request_id, f"request {number}"):
            pass
    found = spans()
    assert [found[f"request {number}"]["context"]["trace_id"][2:] for number in range(2)] == [
        one.removeprefix("req-").replace("-", "") for one in ids]


def test_the_text_of_an_error_is_in_no_span(spans):
    """It may be the user's."""
    with pytest.raises(ValueError, match="secret"), \
            tracing.request(f"req-{uuid.uuid4()}", "fails"):
        raise ValueError("secret")
    assert "secret" not in json.dumps(spans())


def test_off_by_default(conf):
    tracing.install(conf, "api")
    with tracing.request("not even an id", "nothing") as attributes:
        attributes["a"] = 1
    with tracing.work("nothing", None):
        pass
    assert tracing._tracer is None
