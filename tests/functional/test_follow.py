# SPDX-License-Identifier: Apache-2.0
"""GET /v1/executions/{id}/log?follow=true."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import requests

from tests.functional import processes
from tests.functional.client import Api
from tests.functional.deployment import Deployment
from tests.functional.followers import OPEN, TALKER, Following, Talk
from tests.functional.running import Running

pytestmark = pytest.mark.every_database


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test has left open."""
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture(scope="module")
def talker(session_api: Api) -> str:
    return session_api.function(TALKER, timeout="120")


@pytest.fixture
def talk(api: Api, talker: str) -> Talk:
    return Talk(api, talker)


def test_from_before_the_start_to_the_end(api: Api, talk: Talk) -> None:
    follower = Following(api, talk.id)
    assert follower.reply.status_code == 200
    assert follower.headers["Content-Type"].lower() == "text/plain; charset=utf-8"
    assert follower.headers["Cache-Control"] == "no-store"
    assert follower.headers["X-Accel-Buffering"] == "no"
    assert follower.headers["X-Openstack-Request-Id"].startswith("req-")
    talk.say(b"one\n")
    follower.has(b"one\n")
    talk.say(b"two\n")
    follower.has(b"one\ntwo\n")
    talk.end()
    assert follower.done() == b"one\ntwo\n"
    assert not follower.broken


def test_one_that_waits_for_a_worker(api: Api) -> None:
    made = api.run(api.function("def main():\n    print('here')\n"), sync=False)
    assert Following(api, made["id"]).done() == b"here\n"


def test_from_the_middle_and_after_the_end(api: Api, talk: Talk) -> None:
    talk.say(b"before\n")
    first = Following(api, talk.id)
    first.has(b"before\n")
    second = Following(api, talk.id)
    second.has(b"before\n")
    talk.say(b"after\n")
    talk.end()
    assert first.done() == second.done() == b"before\nafter\n"
    late = Following(api, talk.id)
    assert late.done() == b"before\nafter\n"
    assert late.headers["Content-Length"] == "13"


def test_goes_on_at_a_byte(api: Api, talk: Talk) -> None:
    talk.say(b"0123456789\n")
    Following(api, talk.id, Range="bytes=0-10").has(b"0123456789\n")
    middle = Following(api, talk.id, Range="bytes=4-")
    assert middle.reply.status_code == 206
    assert middle.headers["Content-Range"] == "bytes 4-9007199254740991/*"
    at_end = Following(api, talk.id, Range="bytes=11-")
    assert at_end.reply.status_code == 206
    suffix = Following(api, talk.id, Range="bytes=-2")
    bounded = Following(api, talk.id, Range="bytes=8-12")
    assert bounded.headers["Content-Range"] == "bytes 8-12/*"
    middle.has(b"456789\n")
    suffix.has(b"9\n")
    bounded.has(b"89\n")
    talk.say(b"more\n")
    assert bounded.done() == b"89\nmo"
    at_end.has(b"more\n")
    talk.end()
    assert middle.done() == b"456789\nmore\n"
    assert at_end.done() == b"more\n"
    assert suffix.done() == b"9\nmore\n"


def test_a_byte_that_is_not_there_yet(api: Api, talk: Talk) -> None:
    talk.say(b"four\n")
    Following(api, talk.id, Range="bytes=0-4").done()
    path = f"/v1/executions/{talk.id}/log?follow=true"
    headers: dict[str, str | None] = {"Accept": "text/plain", "Range": "bytes=6-"}
    reply = api.request("GET", path, headers=headers)
    assert (reply.status_code, reply.headers["Content-Range"]) == (416, "bytes */5")
    talk.end()
    assert api.ended(talk.id)["status"] == "success"
    reply = api.request("GET", path, headers={**headers, "Range": "bytes=5-"})
    assert (reply.status_code, reply.headers["Content-Range"]) == (416, "bytes */5")
    reply = api.request("GET", path, headers={**headers, "Range": "bytes=2-"})
    assert (reply.status_code, reply.content) == (206, b"ur\n")


def test_within_200_ms(api: Api, talk: Talk) -> None:
    follower = Following(api, talk.id)
    delays = []
    for number in range(20):
        line = b"%d\n" % number
        before, length = time.monotonic(), len(follower.data) + len(line)
        talk.say(line)
        while len(follower.data) < length and time.monotonic() < before + 10:
            time.sleep(0.002)
        delays.append(time.monotonic() - before)
    talk.end()
    follower.done()
    # The machine of a test may be busy; the benchmark looks at the rest.
    assert sorted(delays)[10] < 0.2, delays


def test_head_and_arguments(api: Api, talk: Talk) -> None:
    path = f"/v1/executions/{talk.id}/log"
    headers: dict[str, str | None] = {"Accept": "text/plain"}
    reply = api.request("HEAD", f"{path}?follow=true", headers=headers)
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["Content-Type"].lower() == "text/plain; charset=utf-8"
    talk.say(b"said\n")
    assert processes.wait_for(lambda: api.log(talk.id) == b"said\n", 20)
    assert api.request("GET", f"{path}?follow=false", headers=headers).content == b"said\n"
    assert "follow" in api.refused("GET", f"{path}?follow=maybe", 400, headers=headers)
    assert "nope" in api.refused("GET", f"{path}?nope=1", 400, headers=headers)
    api.refused("GET", f"{path}?follow=true", 406)
    api.refused("GET", "/v1/executions/nothing/log?follow=true", 404, headers=headers)


def test_of_another_project(caller_of: Callable[..., Api], talk: Talk) -> None:
    other = caller_of(project="other", roles="member")
    other.refused("GET", f"/v1/executions/{talk.id}/log?follow=true", 404,
                  headers={"Accept": "text/plain"})


@pytest.mark.noauth  # it writes its requests by hand
def test_http_1_0(api: Api, talk: Talk) -> None:
    """Without chunks: the end of the connection is the end of the log."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), 30) as client:
        client.sendall(f"GET /v1/executions/{talk.id}/log?follow=1 HTTP/1.0\r\n"
                       "Accept: text/plain\r\n\r\n".encode())
        talk.say(b"one\n")
        talk.end()
        received = b""
        while data := client.recv(4096):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    # The web server itself answers, in its own version, when the run has ended by then.
    assert re.match(rb"HTTP/1\.[01] 200 OK\r\n", head) and b"chunked" not in head
    assert body == b"one\n"


@pytest.mark.usefixtures("ledger")  # functions have to reach this machine
def test_cancelled_and_deleted(api: Api, talker: str) -> None:
    talks = [Talk(api, talker), Talk(api, talker)]
    followers = [Following(api, one.id) for one in talks]
    for one, follower in zip(talks, followers, strict=True):
        one.say(b"said\n")
        follower.has(b"said\n")
    api.ok("POST", f"/v1/executions/{talks[0].id}/cancel")
    assert followers[0].done() == b"said\n" and not followers[0].broken
    api.ok("DELETE", f"/v1/executions/{talks[1].id}", 204)
    assert followers[1].done() == b"said\n"


@pytest.mark.noauth  # it writes its requests by hand
def test_a_stalled_follower_costs_nothing(api: Api, talk: Talk) -> None:
    """It does not read at all; the run ends, another follower gets all, and it gets all later."""
    address = urlsplit(api.url)
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    stalled.connect((address.hostname, address.port))
    stalled.sendall(f"GET /v1/executions/{talk.id}/log?follow=true HTTP/1.0\r\n\r\n".encode())
    vanished = Following(api, talk.id)
    vanished.close()
    follower = Following(api, talk.id)
    line = b"x" * 999 + b"\n"
    for _ in range(600):
        talk.say(line)
    talk.end()
    assert api.ended(talk.id)["status"] == "success"
    assert follower.done() == line * 600
    received = b""
    stalled.settimeout(30)
    while data := stalled.recv(1 << 16):
        received += data
    stalled.close()
    assert received.partition(b"\r\n\r\n")[2] == line * 600


def test_more_than_there_is_room_for(start_service: Callable[..., Running]) -> None:
    running = start_service(settings="[api]\nmax_followers = 2\n")
    api = running.api()
    talk = Talk(api)
    followers = [Following(api, talk.id) for _ in range(2)]
    reply = requests.get(f"{running.url}/v1/executions/{talk.id}/log?follow=true", timeout=30)
    assert (reply.status_code, "Retry-After" in reply.headers) == (503, True)
    assert "limit" in reply.json()["faultstring"]
    talk.say(b"said\n")
    talk.end()
    assert [follower.done() for follower in followers] == [b"said\n"] * 2
    again = Following(api, talk.id)
    assert again.done() == b"said\n"
    api.close()


def test_through_another_process(deploy: Callable[..., Deployment]) -> None:
    """The run is an engine's; the followers are at two API processes."""
    deployment = deploy(apis=2, engines=1)
    api = deployment.api(0)
    talk = Talk(api)
    followers = [Following(deployment.api(number), talk.id) for number in (0, 1, 0, 1)]
    sent = b""
    for number in range(5):
        talk.say(b"%d\n" % number)
        sent += b"%d\n" % number
        for follower in followers:
            follower.has(sent)
    talk.end()
    for follower in followers:
        assert follower.done() == sent and not follower.broken
        assert follower.reply.status_code == 200
    assert api.ended(talk.id)["status"] == "success"
    assert "Traceback" not in deployment.log()
