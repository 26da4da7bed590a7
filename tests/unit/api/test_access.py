# SPDX-License-Identifier: Apache-2.0
"""Requests are counted under few names, and written in one line each."""

import logging

import pytest
from oslo_context import context

from qinling_exec import metrics
from qinling_exec.api import access
from tests.unit.api.wsgi import Target, call

ID = "c0ffee00-0000-4000-8000-000000000000"


@pytest.mark.parametrize(("path", "name"), [
    ("/", "/"), ("", "/"), ("/v1", "/v1"), ("/v1/executions", "/v1/executions"),
    (f"/v1/executions/{ID}/log", "/v1/executions/{}/log"), ("/v1/aliases/live", "/v1/aliases/{}"),
    (f"/v1/functions/{ID}/versions/3/scale_up", "/v1/functions/{}/versions/{}/scale_up"),
    ("/.env", "other"), ("/v1/a/b/c/d/e/f/g/h", "other"),
])
def test_routes(path, name):
    assert access.route(path) == name


def counted(*labels):
    return metrics.REQUESTS.labels(*labels)._value.get()


def test_a_request_is_counted_once():
    labels = ("GET", "/v1/executions/{}", "200")
    before = counted(*labels)
    call(access.Access(Target(reads=False), False), "GET", f"/v1/executions/{ID}")
    assert counted(*labels) == before + 1


def test_what_is_not_there_does_not_make_new_names():
    before = counted("other", "other", "404")
    for path in ("/v1/functions/a", "/v1/nothing/b"):
        call(access.Access(Target(reads=False, status="404 Not Found"), False), "PROPFIND", path)
    assert counted("other", "other", "404") == before + 2


def test_one_line_for_each(caplog):
    caplog.set_level(logging.INFO)
    call(access.Access(Target(reads=False), True), "GET", "/v1/aliases/a\nb c",
         REMOTE_ADDR="192.0.2.1", QUERY_STRING="x=1", HTTP_X_AUTH_TOKEN="secret")
    (record,) = [one for one in caplog.records if one.name == access.__name__]
    assert record.getMessage().startswith('192.0.2.1 "GET /v1/aliases/a?b?c?x=1" 200 0.')
    assert "secret" not in caplog.text


def test_a_long_path_is_cut(caplog):
    caplog.set_level(logging.INFO)
    call(access.Access(Target(reads=False), True), "GET", "/" + "x" * 5000)
    assert len(caplog.records[-1].getMessage()) < 600


def test_a_failure_is_counted_and_goes_on():
    before = counted("GET", "/v1", "500")
    with pytest.raises(ValueError, match="boom"):
        call(access.Access(Target(reads=False, error=ValueError("boom")), False), "GET", "/v1")
    assert counted("GET", "/v1", "500") == before + 1


def test_the_context_is_not_that_of_the_request_before():
    context.RequestContext(request_id="req-old", project_id="somebody")
    call(access.Access(Target(reads=False), False), **{"openstack.request_id": "req-new"})
    current = context.get_current()
    assert (current.request_id, current.project_id) == ("req-new", None)
