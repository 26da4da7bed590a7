# SPDX-License-Identifier: Apache-2.0
"""Errors: JSON in one shape, a sentence that helps, and nothing of the inside."""

from __future__ import annotations

import logging
import re

import pytest

from qinling_exec import exceptions
from qinling_exec.api.faults import Faults
from qinling_exec.api.middleware import Options, RequestId
from tests.unit.api.wsgi import Socket, Target, call

SECRETS = re.compile(r"SELECT|secret|Traceback|/opt/|sqlalchemy|KeyError|<html", re.I)


def through(target, **options):
    return call(RequestId(Faults(target, body_limit=1000)), **options)


def test_success_is_left_alone():
    target = Target(b'{"a": 1}', "201 Created", [("Content-Type", "application/json"),
                                                 ("X-Own", "yes")])
    reply = through(target, body=b"{}")
    assert (reply.status, reply.body, reply.headers["x-own"]) == ("201 Created", b'{"a": 1}',
                                                                  "yes")


def test_streams_are_not_collected():
    class Body:
        closed = False

        def __iter__(self):
            yield b"a"
            yield b"b"

        def close(self):
            self.closed = True

    body = Body()

    def application(_environ, start):
        start("200 OK", [])
        return body

    assert through(application).body == b"ab"
    assert body.closed


@pytest.mark.parametrize(("status", "body", "kind"), [
    ("404 Not Found", b'{"code": 404, "title": "Not Found", "description": null}',
     "application/json"),
    ("405 Method Not Allowed", b"<html><h1>405</h1></html>", "text/html"),
    ("406 Not Acceptable", b"406 Not Acceptable\n\n", "text/plain"),
    ("413 Content Too Large", b"", "text/plain"), ("415 Unsupported", b"", "text/plain"),
    ("400 Bad Request", b"<html>SELECT secret FROM /opt/</html>", "text/html"),
    ("401 Unauthorized", b"", "text/html"), ("403 Forbidden", b"x", "text/html"),
    ("416 Range", b"x", "text/html"), ("418 Teapot", b"<html>", "text/html"),
    ("500 Internal Server Error", b"Traceback: secret", "text/plain"),
    ("502 Bad Gateway", b"<html>secret", "text/html"),
    ("503 Service Unavailable", b"secret", "a/b"),
    ("500 Internal Server Error", b'{"faultstring": "(sqlalchemy) SELECT secret"}',
     "application/json"),
])
@pytest.mark.parametrize("bare", [False, True])
def test_pages_of_libraries(status, body, kind, bare):
    target = Target(body, status, [("Content-Type", kind), ("Allow", "GET"), ("Retry-After", "9"),
                                   ("WWW-Authenticate", "Keystone"), ("Content-Length", "77"),
                                   ("X-Debug", "secret")])
    reply = through(target, **({"qinling_exec.bare_fault": True} if bare else {}))
    assert reply.code == int(status[:3])
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert (reply.headers["allow"], reply.headers["retry-after"]) == ("GET", "9")
    assert reply.headers["www-authenticate"] == "Keystone"
    assert "x-debug" not in reply.headers
    assert not SECRETS.search(reply.body.decode())
    assert len(reply.text) > 5
    if bare:
        assert set(reply.json) == {"faultstring"}
    else:
        assert reply.json["faultcode"] == ("Client" if reply.code < 500 else "Server")
        assert reply.json["debuginfo"] is None
    if reply.code == 500:
        assert reply.headers["x-openstack-request-id"] in reply.text


@pytest.mark.parametrize("error", [
    exceptions.InputError("Say it again."), exceptions.NotFound("Gone."),
    exceptions.Conflict("In use."), exceptions.InsufficientStorage(), exceptions.Unavailable(),
    exceptions.ServiceError(), exceptions.NotAllowed(), exceptions.RangeNotSatisfiable(),
])
def test_errors_of_the_service(error):
    reply = through(Target(error=error))
    assert reply.code == error.code
    assert reply.text == str(error)
    assert reply.json["faultcode"] == ("Client" if error.code < 500 else "Server")
    for name, value in error.headers.items():
        assert reply.headers[name.lower()] == value


@pytest.mark.parametrize("error", [
    KeyError("secret"), RuntimeError("(sqlalchemy) SELECT secret"), RecursionError(),
    MemoryError(), OSError(2, "No such file", "/opt/secret"), UnicodeError("secret"),
    AssertionError(),
])
def test_other_errors(error, caplog):
    with caplog.at_level(logging.ERROR):
        reply = through(Target(error=error), path="/v1/executions")
    assert reply.code == 500
    assert not SECRETS.search(reply.body.decode())
    assert reply.headers["x-openstack-request-id"] in reply.text
    record = caplog.records[-1]
    assert record.exc_info and record.exc_info[1] is error
    assert "/v1/executions" in record.getMessage()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_the_end_of_the_process_is_no_error(error):
    with pytest.raises(type(error)):
        through(Target(error=error))


def test_head_has_no_body():
    reply = through(Target(b"", "405 Method Not Allowed", [("Allow", "GET")]), method="HEAD")
    assert reply.body == b""
    assert reply.headers["allow"] == "GET"


def test_text_that_is_odd_stays_json():
    reply = through(Target(error=exceptions.InputError('"\ud800\0\n</html> ✓')))
    assert reply.text == '"\ud800\0\n</html> ✓'


def test_long_texts_are_cut():
    sent = "Value: '" + "x" * 10_000_000 + "'. Too long."
    text = through(Target(error=exceptions.InputError(sent))).text
    assert text.startswith("Value: 'xxx")
    assert text.endswith("xxx'. Too long.")
    assert len(text) < 1100


def test_what_nobody_read_is_read_away():
    """Else the server would take the rest for the next request, or the client miss the reply."""
    class Refuses(Target):
        def __call__(self, environ, start):
            raise exceptions.NotAllowed()

    socket = Socket(b"x" * 900)
    assert through(Refuses(), socket=socket, length="900").code == 403
    assert socket.taken == 900
    socket = Socket([b"x" * 500] * 3)
    assert through(Refuses(), socket=socket, HTTP_TRANSFER_ENCODING="chunked").code == 403
    assert socket.taken <= 1500
    assert through(Refuses(), socket=Socket(b"", ConnectionResetError()), length="5").code == 403


def test_every_body_has_a_limit():
    target = Target()
    socket = Socket(b"x" * 2000)
    assert through(target, socket=socket, length="1001").code == 413
    assert target.reached is None
    assert socket.taken == 0


def test_request_id():
    target = Target()
    first, second = (through(target) for _ in range(2))
    seen = target.reached["openstack.request_id"]
    pattern = r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    assert re.fullmatch(pattern, seen)
    assert second.headers["x-openstack-request-id"] == seen
    assert first.headers["x-openstack-request-id"] != seen
    assert first.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("given", "kept"), [
    ("req-5b0c0a3e-0000-4000-8000-000000000000", True), ("req-", False), ("", False),
    ("5b0c0a3e-0000-4000-8000-000000000000", False), ("req-" + "-" * 36, False),
    ("req-5b0c0a3e-0000-4000-8000-000000000000\n", False), ("req-x\r\nSet-Cookie: a=b", False),
    ("req-5b0c0a3e-0000-4000-8000-0000000000000", False),
])
def test_request_id_of_the_caller(given, kept):
    target = Target()
    reply = through(target, HTTP_X_OPENSTACK_REQUEST_ID=given)
    assert target.reached.get("openstack.global_request_id") == (given if kept else None)
    assert reply.headers["x-openstack-request-id"] == target.reached["openstack.request_id"]
    assert reply.headers["x-openstack-request-id"] != given


def test_options():
    target = Target()
    reply = call(Options(target), method="OPTIONS", path="/v1/executions")
    assert (reply.code, reply.body, target.reached) == (200, b"", None)
    assert through(Options(target), method="GET").json == {}
