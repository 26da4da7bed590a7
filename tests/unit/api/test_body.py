# SPDX-License-Identifier: Apache-2.0
"""The body guard: only JSON that nobody behind it can stumble over comes through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qinling_exec import exceptions
from qinling_exec.api import body as bodies
from qinling_exec.api.body import BodyGuard
from qinling_exec.api.faults import Faults
from tests.unit.api.wsgi import Reply, Socket, Target, call

LIMIT, DEPTH = 1000, 10
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked"}


@pytest.fixture
def target():
    return Target()


@pytest.fixture
def send(target):
    application = Faults(BodyGuard(target, limit=LIMIT, depth=DEPTH), body_limit=5 * LIMIT)

    def send(body: bytes = b"", **options) -> Reply:
        return call(application, body=body, **options)

    return send


def refused(reply: Reply, target: Target, code: int = 400) -> str:
    """Return the text of a refusal in full shape; nothing came through."""
    assert reply.code == code, reply
    assert target.reached is None
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json) == {"faultcode", "faultstring", "debuginfo"}
    assert reply.json["faultcode"] == "Client"
    return reply.text


@pytest.mark.parametrize("body", [
    b"{}", b' {"a": [1, 2.5, -0.0, true, null, "x"]}\n', b'{"a": 123456789012345678901234567890}',
    '{"größe": "✓"}'.encode(), b'{"a": "\\ud800"}', b'{"a": "\\u0000"}', b'{"a": {"a": {"a": 1}}}',
    b'{"a": "[[[[[[[[[[[[[[[["}', b'{"a": "\\\\\\"[[[[[[[[[[[[[["}', b'{"a": 1e-999}',
    b'{"a": ' + b"[" * (DEPTH - 1) + b"]" * (DEPTH - 1) + b"}",
    b'{"a": "' + b"x" * (LIMIT - 9) + b'"}',
])
def test_good_json_comes_through_as_it_was(send, target, body):
    assert send(body).code == 200
    assert target.received == body
    assert target.reached["CONTENT_LENGTH"] == str(len(body))
    assert target.reached["qinling_exec.json"] == json.loads(body)


@pytest.mark.parametrize("body", [
    b"{", b"}", b'{"a":', b"{'a': 1}", b"\x00", b"nul", b'{"a": 1}{}', b'{"a": 01}', b'{"a": +1}',
    b'{"a": "\x01"}', b"\xef\xbb\xbf{}", b'{"a": "\\x"}', b'{"a": 1,}', b"x", b'{"a": .5}',
    b'{"a": ' + b"9" * 900 + b"x}",
])
def test_not_json(send, target, body):
    assert refused(send(body), target) == "Request is not in valid JSON format"


def test_a_number_that_python_does_not_read(target):
    application = Faults(BodyGuard(target, limit=10_000, depth=DEPTH), body_limit=10_000)
    reply = call(application, body=b'{"a": ' + b"9" * 5000 + b"}")
    assert refused(reply, target) == "Request is not in valid JSON format"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b"1.5", b"true", b'"text"', b"[{}]"])
def test_not_an_object(send, target, body):
    assert refused(send(body), target) == "The request body must be a JSON object."


@pytest.mark.parametrize("body", [b"\xff", b'{"a": "\xc3"}', b'{"a": "\xed\xa0\x80"}',
                                  '{"a": 1}'.encode("utf-16"), b'{"a": "\xf4\x90\x80\x80"}'])
def test_not_utf8(send, target, body):
    assert "UTF-8" in refused(send(body), target)


@pytest.mark.parametrize("body", [
    b'{"a": ' + b"[" * DEPTH + b"]" * DEPTH + b"}", b"[" * 900, b'{"a":' * 150,
    b'{"x": "\\"", "a": ' + b'{"a":' * 20 + b"1" + b"}" * 21,
])
def test_depth(send, target, body):
    assert refused(send(body), target) == "The request body is nested deeper than 10 levels."


@pytest.mark.parametrize("depth", [1_000, 100_000, 1_000_000])
def test_depth_without_recursion(depth):
    assert bodies.depth("[" * depth) == depth
    assert bodies.depth('{"a":' * depth) == depth


@pytest.mark.parametrize(("text", "depth"), [
    ("", 3), ("[]", 3), ("[[[[]]]]", 4), ("[][][][]", 1), ('"[[[[[["[', 1),
    ('"\\"[[[[[["[', 1), ('"\\\\"[[[[[[', 6), ("]]]][[[[", 0), ('"[[[[[', 0), ("[{[{}]}]", 4),
])
def test_depth_of(text, depth):
    assert bodies.depth(text) == depth


@settings(max_examples=150, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8") | st.sampled_from('[]{}"\\')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=20))
def test_any_json_is_read_as_the_library_reads_it(value):
    def nesting(value):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(nesting, inner), default=0) if isinstance(value, (dict, list)) else 0

    text = json.dumps({"a": value})
    assert bodies.parse(text.encode(), 100) == {"a": value}
    assert max(3, bodies.depth(text)) == max(3, 1 + nesting(value))


@pytest.mark.parametrize(("body", "name"), [
    (b'{"a": NaN}', "NaN"), (b'{"a": Infinity}', "Infinity"), (b'{"a": [-Infinity]}', "-Infinity"),
    (b'{"a": 1e999}', "1e999"), (b'{"a": -1.5E+400}', "-1.5E+400"),
])
def test_numbers_that_json_does_not_have(send, target, body, name):
    assert name in refused(send(body), target)


@pytest.mark.parametrize("body", [
    b'{"name": 1, "name": 1}', b'{"a": {"name": 1, "b": 2, "name": 3}}',
    b'{"a": [{"x": [{"name": 1, "n\\u0061me": 2}]}]}',
])
def test_duplicate_keys(send, target, body):
    assert refused(send(body), target) == "The key 'name' occurs twice in an object."


@pytest.mark.parametrize(("kind", "shown"), [
    ("text/plain", "text/plain"), (None, "text/plain"), ("", "text/plain"),
    ("application/xml", "application/xml"), ("Text/XML; charset=utf-8", "text/xml"),
    ("application/octet-stream", "application/octet-stream"), ("nonsense", "nonsense"),
    ("application/json-patch+json", "application/json-patch+json"),
])
def test_content_types(send, target, kind, shown):
    assert refused(send(b"{}", kind=kind), target, 415) == f"Unknown mimetype: {shown}"


@pytest.mark.parametrize("kind", ["application/json", "APPLICATION/JSON;charset=UTF-8",
                                  'application/json; charset="utf-8"', "application/json;"])
def test_json_by_other_names(send, target, kind):
    assert send(b"{}", kind=kind).code == 200
    assert target.reached["CONTENT_TYPE"] == "application/json"


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", '"utf-7"', "nonsense"])
def test_charsets(send, target, charset):
    refused(send(b"{}", kind=f"application/json; charset={charset}"), target, 415)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity", "x"])
def test_content_encodings(send, target, encoding):
    refused(send(b"{}", HTTP_CONTENT_ENCODING=encoding), target, 415)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "DELETE"])
def test_no_body(send, target, kind, method):
    """What is missing is for the operation to say."""
    assert send(b"", kind=kind, method=method, HTTP_CONTENT_ENCODING="Identity").code == 200
    assert target.received == b""


def test_body_of_a_delete(send, target):
    assert send(b'{"a": 1}', method="DELETE").code == 200
    assert target.received == b'{"a": 1}'


def test_one_byte_too_many(send, target):
    body = b'{"a": "' + b"x" * (LIMIT - 8) + b'"}'
    assert len(body) == LIMIT + 1
    socket = Socket(body)
    text = refused(send(socket=socket, length=str(len(body))), target, 413)
    assert text == "The request body may have 1000 bytes at the most."
    assert socket.taken == len(body)  # so that the client has sent all, and reads the reply


def test_far_too_much_is_not_read(send, target):
    socket = Socket(b"x" * 100)
    refused(send(socket=socket, length=str(10**12)), target, 413)
    assert socket.taken == 0


def test_chunked(send, target):
    socket = Socket([b'{"a"', b": ", b"1}"], chunked=True)
    assert send(socket=socket, **CHUNKED).code == 200
    assert target.received == b'{"a": 1}'
    assert target.reached["CONTENT_LENGTH"] == "8"
    assert "HTTP_TRANSFER_ENCODING" not in target.reached


def test_chunked_without_end(send, target):
    def flood():
        while True:
            yield b"x" * 100

    socket = Socket(flood(), chunked=True)
    refused(send(socket=socket, **CHUNKED), target, 413)
    assert socket.taken < 100_000


def test_chunked_through_a_server_that_can_not(send, target):
    reply = send(socket=Socket(b""), **CHUNKED, **{"wsgi.input_terminated": False})
    assert "Content-Length" in refused(reply, target, 411)


@pytest.mark.parametrize("fails", [None, ConnectionResetError("reset"), TimeoutError("timed out"),
                                   ValueError("bad chunk"), EOFError()])
def test_the_client_goes_away(send, target, fails):
    reply = send(socket=Socket(b'{"a": ', fails), length="100")
    assert "request body" in refused(reply, target)


@pytest.mark.parametrize("length", ["-5", "x", "1.5", "٣", "0x10", " 5"])
def test_odd_lengths(send, target, length):
    assert refused(send(b"{}", length=length), target) == "Content-Length must be a number."


@pytest.mark.parametrize(("path", "query"), [
    ("/v1/\xff", ""), ("/v1/executions", "status=%ff"), ("/v1/executions", "%c3=1"),
    ("/v1/executions", "a=%ed%a0%80"), ("/v1/executions", "a=\xff"),
])
def test_addresses_that_are_no_text(send, target, path, query):
    assert "UTF-8" in refused(send(b"", method="GET", path=path, QUERY_STRING=query), target)


def test_addresses_that_are_text(send, target):
    path = "/v1/größe".encode().decode("latin-1")
    assert send(b"", method="GET", path=path, QUERY_STRING="a=%c3%9f+%25").code == 200


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('[]{}:,"\\ 01eE+-.ntu', max_size=60).map(str.encode))
def test_random_bytes(data):
    """Whatever comes, it is JSON for the strict or refused in the service's own words."""
    try:
        value = bodies.parse(data, DEPTH)
    except exceptions.InputError as error:
        assert "JSON" in str(error) or "deeper" in str(error) or "twice" in str(error) or (
            "too large" in str(error))
    else:
        assert value == json.loads(data)
