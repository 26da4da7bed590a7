# SPDX-License-Identifier: Apache-2.0
"""Hostile requests: a clean refusal or a faithful answer, never a 500."""

from __future__ import annotations

import json
import random
import socket
import zlib

import pytest

from tests.functional.client import REQUEST_ID, Api, output
from tests.functional.running import Running

pytestmark = pytest.mark.every_database

JSON = {"Content-Type": "application/json"}
ECHO = "def main(*args, context=None, **kwargs):\n    return {'args': args, 'kwargs': kwargs}\n"
PATHS = ["/v1/executions", "/v1/runtimes", "/v1/aliases", "/v1/functions"]
_LIMIT = 16 * 1024 * 1024
SERVERS = "they are refused by the web server, each in its own way"


@pytest.fixture(scope="module")
def echo(session_api: Api) -> str:
    return session_api.function(ECHO)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [
    b"[]", b"null", b"1", b'"text"', b"true", b"", b"{", b"{}}", b"\xff\xfe", b'{"a": "\xff"}',
    b'{"name": NaN}', b'{"name": Infinity}', b'{"name": -Infinity}', b'{"name": 1, "name": 2}',
    b'{"a": {"b": 1, "b": 2}}', b"[" * 100_000, b'{"a":' * 50_000,
    b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"name": "\\u0000"}', b'{"name": "\\ud800"}',
    b'{"\\ud800": 1}', b'{"": 1}', b'{"__class__": 1}', b'{"name": 1e999}',
    b'{"name": ' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}", b"{'name': 1}", b"\0",
], ids=lambda body: repr(body[:24]))
def test_body(api: Api, path: str, body: bytes) -> None:
    reply = api.request("POST", path, data=body, headers=JSON)
    assert 400 <= reply.status_code < 500, reply.text[:300]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", [
    "text/plain", "application/xml", "text/xml", "application/octet-stream", "nonsense", "",
    "application/json; charset=utf-16", "application/json-patch+json",
])
def test_content_type(api: Api, path: str, kind: str) -> None:
    reply = api.request("POST", path, data=b'{"name": "x"}', headers={"Content-Type": kind})
    assert reply.status_code in (400, 415), reply.text[:300]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "nonsense"])
def test_compressed_body(api: Api, echo: str, encoding: str) -> None:
    body = zlib.compress(json.dumps({"function_id": echo}).encode())
    api.refused("POST", "/v1/executions", 415, data=body,
                headers={**JSON, "Content-Encoding": encoding})


@pytest.mark.parametrize("text", [
    "lone \ud800 surrogate", "nul \0 inside", '{"a": "\ud800"}', '{"a": "\\ud800"}',
    '{"a": 1, "a": 2}', '{"a": 9007199254740993}', '{"a": 1e400}', '{"a": NaN}', '{"a": -0.0}',
    "[" * 90 + "]" * 90, "\u2028\u2029\ufeff", "'; DROP TABLE executions; --", "{}" * 1000,
], ids=lambda text: ascii(text[:24]))
def test_input_round_trip(api: Api, echo: str, text: str) -> None:
    """An input is refused cleanly, or kept and handed over exactly as it was sent."""
    reply = api.request("POST", "/v1/executions", headers=JSON,
                        data=json.dumps({"function_id": echo, "input": text}))
    if reply.status_code == 400:
        assert "input" in reply.json()["faultstring"] or "surrogate" in reply.json()["faultstring"]
        return
    made = reply.json()
    assert reply.status_code == 201
    assert made["input"] == text
    assert api.show(made["id"])["input"] == text
    assert made["status"] in ("success", "failed")
    if made["status"] == "success" and not text.startswith("{"):
        assert output(made) == {"args": [text], "kwargs": {}}


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_deep_input(api: Api, echo: str, depth: int) -> None:
    for text in ("[" * depth, "[" * depth + "]" * depth, '{"a":' * depth):
        reply = api.request("POST", "/v1/executions",
                            json={"function_id": echo, "input": text, "sync": False})
        assert reply.status_code == 400
        assert "input" in reply.json()["faultstring"]


def test_input_with_duplicate_keys_is_not_mixed(api: Api, echo: str) -> None:
    reply = api.request("POST", "/v1/executions",
                        json={"function_id": echo, "input": '{"a": 1, "a": 2}'})
    assert reply.status_code == 400 or output(reply.json())["kwargs"] in ({"a": 2}, {"a": 1})


def test_body_at_its_limit_and_one_byte_over(api: Api, echo: str) -> None:
    start, end = b'{"function_id": "%s", "sync": false, "nope": "' % echo.encode(), b'"}'
    body = start + b"x" * (_LIMIT - len(start) - len(end)) + end
    assert len(body) == _LIMIT
    assert api.refused("POST", "/v1/executions", 400, data=body, headers=JSON) == (
        "Unknown attribute for argument body: nope")
    text = api.refused("POST", "/v1/executions", 413, data=start + b"x" + body[len(start):],
                       headers=JSON)
    assert str(_LIMIT) in text or "16" in text


def test_chunked_body_over_the_limit(api: Api) -> None:
    def chunks() -> object:
        yield b'{"function_id": "'
        for _ in range(20):
            yield b"x" * 1024 * 1024

    with api.session.post(f"{api.url}/v1/executions", data=chunks(), timeout=30,
                          headers={**api.headers, **JSON}) as reply:
        assert reply.status_code in (411, 413)  # uWSGI takes no chunks at all
        assert reply.json()["faultstring"]


def test_deep_path_and_long_query(api: Api) -> None:
    assert api.request("GET", "/v1/executions" + "/a" * 2000).status_code in (404, 414)
    assert api.request("GET", "/v1/executions?" + "&".join(f"a{n}=1" for n in range(500))
                       ).status_code == 400


@pytest.mark.own_service(SERVERS)
def test_longer_query_than_most_servers_take(api: Api) -> None:
    path = "/v1/executions?description=" + "d" * 20000
    assert api.request("GET", path).status_code in (200, 400, 414)


@pytest.mark.parametrize("query", ["status=%ff", "%ff=1", "=", "&&&", "status", "limit=1&limit=2",
                                   "status=success&status=failed", "id=%00", "sort=%00",
                                   "marker=%ff", "description=%ed%a0%80", "project_id=%00"])
def test_odd_query(api: Api, query: str) -> None:
    api.request("GET", f"/v1/executions?{query}")


@pytest.mark.parametrize("header", [
    {"X-Project-Id": "p" * 81}, {"X-Project-Id": "p" * 5000}, {"X-Roles": "," * 1000},
    {"X-Project-Id": "\xfc"}, {"X-Openstack-Request-Id": "req-x\tx"}, {"Accept": "," * 500},
    {"Accept": "*"}, {"Accept": "application/json;q=0"}, {"Accept": "a/b/c, ;;"},
    {"X-Openstack-Request-Id": "nonsense"}, {"Origin": "http://a.example"},
    {"If-None-Match": "*"}, {"Expect": "100-continue"},
    pytest.param({"Expect": "nonsense"}, marks=pytest.mark.own_service(SERVERS)),
], ids=str)
def test_odd_header(api: Api, header: dict[str, str | None]) -> None:
    api.request("GET", "/v1/executions?limit=1", headers=header)


@pytest.mark.parametrize("head", [
    b"GARBAGE\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET /v1/executions HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET //v1/executions HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 10_000,
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
], ids=range(14))
def test_broken_http(service: Running, head: bytes) -> None:
    """A refusal in JSON, also where the request never reaches the application."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert b"Traceback" not in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.split(b" ")[1].startswith(b"4") or answer[9:13] in (b"501 ", b"505 ")
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/json\r\n" in headers
    assert REQUEST_ID.search(headers.decode())
    assert json.loads(body)["faultstring"]


@pytest.mark.parametrize("length", ["Transfer-Encoding: chunked", "Content-Length: -5",
                                    "Content-Length: abc", "Content-Length: +5"])
def test_rest_of_a_broken_body_is_no_request(service: Running, length: str) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(b"POST /v1/executions HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Type: application/json\r\n" + length.encode() + b"\r\n\r\n"
                           b"zz\r\nGET /v1/ HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", [
    "/__class__", "/_route", "/index", "/v1/__class__", "/v1/index", "/v1/_openapi",
    "/v1/executions/__class__", "/v1/functions/__class__", "/v1/functions/_service",
    "/v1/functions/{function}/__class__", "/v1/functions/{function}/_scaler",
    "/v1/functions/{function}/versions/__class__", "/v1/aliases/__class__",
])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_attributes_of_a_controller_are_no_paths(api: Api, echo: str, method: str,
                                                 path: str) -> None:
    """/v1/__class__ was answered with 500."""
    reply = api.request(method, path.format(function=echo))
    assert reply.status_code in (400, 404, 405)


def test_alias_may_be_named_like_an_attribute(api: Api, echo: str) -> None:
    for number, name in enumerate(("__class__", "_service", "new", "get_all", "a.json")):
        api.ok("POST", "/v1/aliases", 201, json={"name": name, "function_id": echo,
                                                 "function_version": 900 + number})
        assert api.ok("GET", f"/v1/aliases/{name}")["name"] == name
        api.ok("DELETE", f"/v1/aliases/{name}", 204)


@pytest.mark.parametrize("path", [
    "/v1/functions/%00", "/v1/functions/a%00b/versions/1", "/v1/aliases/%00",
    "/v1/executions/%00/log",
])
def test_nul_in_the_path(api: Api, path: str) -> None:
    """No database takes it."""
    assert "NUL" in api.refused("GET", path, 400, headers={"Accept": "*/*"})


@pytest.mark.noauth
def test_nul_in_the_project(api: Api) -> None:
    text = api.refused("GET", "/v1/runtimes", 400, headers={"X-Project-Id": "a\0b"})
    assert "X-Project-Id" in text


def test_body_that_stops_half_way(api: Api, service: Running, echo: str) -> None:
    before = api.listed(sort="created_at:desc", limit=1)
    for head in (b"Content-Length: 500", b"Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            connection.sendall(b"POST /v1/executions HTTP/1.1\r\nHost: x\r\n"
                               b"Content-Type: application/json\r\n" + head + b"\r\n\r\n"
                               b'40\r\n{"function_id": "' + echo.encode())
    assert api.listed(sort="created_at:desc", limit=1) == before


def test_random_bytes(api: Api) -> None:
    chance = random.Random(4)
    for _ in range(60):
        path = chance.choice(PATHS)
        body = chance.randbytes(chance.randrange(1, 300))
        kind = chance.choice(["application/json", "multipart/form-data; boundary=x",
                              "application/x-www-form-urlencoded", "multipart/form-data"])
        api.request("POST", path, data=body, headers={"Content-Type": kind})
