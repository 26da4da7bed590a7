# SPDX-License-Identifier: Apache-2.0
"""A connection is taken over without the server noticing, and only where that is possible."""

import socket
import ssl

import pytest

from qinling_exec.api import handover
from qinling_exec.executions.follower import Follow


class Kept:
    """Stands for the followers."""

    sockets = []

    def __init__(self):
        self.added = []

    def add(self, follower):
        self.added.append(follower)
        self.sockets.append(follower.socket)


@pytest.fixture
def pair():
    client, server = socket.socketpair()
    client.settimeout(10)
    yield client, server
    for one in (client, server, *Kept.sockets):
        one.close()
    Kept.sockets.clear()


def request(server, application, protocol="HTTP/1.1", **environ):
    kept, begun = Kept(), []
    environ = {"QUERY_STRING": "follow=true", "SERVER_PROTOCOL": protocol,
               "gunicorn.socket": server, **environ}
    body = handover.HandOver(application, kept)(environ, lambda *given: begun.append(given))
    return kept, begun, body


def following(environ, start):
    environ[handover.KEY] = Follow("e", 0, None, b"log")
    start("206 Partial Content", [("Content-Type", "text/plain"), ("X-Name", "ü")])
    return []


def test_the_client_gets_its_reply_whatever_the_server_does(pair):
    client, server = pair
    number = server.fileno()
    kept, begun, body = request(server, following)
    with pytest.raises(BrokenPipeError):
        next(iter(body))
    assert begun[0][0] == "206 Partial Content"
    with pytest.raises(BrokenPipeError):
        server.send(b"the server's own")
    assert server.recv(10) == b""
    server.shutdown(socket.SHUT_WR)
    server.close()
    assert number == server.fileno() or server.fileno() == -1
    (follower,) = kept.added
    follower.send()
    follower.end()
    follower.send()
    follower.socket.close()
    received = b""
    while data := client.recv(4096):
        received += data
    head, _, rest = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 206 Partial Content"
    assert lines[1:3] == [b"Content-Type: text/plain", b"X-Name: \xfc"]
    assert {line.partition(b":")[0] for line in lines[3:]} == {
        b"Date", b"Connection", b"Transfer-Encoding"}
    assert rest == b"3\r\nlog\r\n0\r\n\r\n"


def test_without_chunks_for_http_1_0(pair):
    client, server = pair
    kept, _, _ = request(server, following, "HTTP/1.0")
    (follower,) = kept.added
    follower.end()
    follower.send()
    follower.socket.close()
    received = client.recv(4096)
    assert b"chunked" not in received and received.endswith(b"\r\n\r\nlog")


def test_a_server_that_can_let_go_is_told(pair):
    told = []
    _, _, body = request(pair[1], following, **{handover.LET_GO: lambda: told.append(1)})
    assert (list(body), told) == ([], [1])


def test_other_replies_pass(pair):
    def refused(environ, start):
        start("404 Not Found", [])
        return [b"body"]

    kept, begun, body = request(pair[1], refused)
    assert (kept.added, begun, body) == ([], [("404 Not Found", [])], [b"body"])
    _, begun, body = request(pair[1], refused, QUERY_STRING="")
    assert (begun, body) == ([("404 Not Found", [])], [b"body"])


def test_where_it_is_possible(pair, monkeypatch):
    _, server = pair
    plain = {"gunicorn.socket": server, "SERVER_PROTOCOL": "HTTP/1.1"}
    assert handover.possible(plain)
    assert handover.possible({handover.SOCKET: server, "SERVER_PROTOCOL": "HTTP/1.0"})
    assert not handover.possible({**plain, "SERVER_PROTOCOL": "HTTP/2"})
    assert not handover.possible({"SERVER_PROTOCOL": "HTTP/1.1"})
    monkeypatch.setattr(ssl, "SSLSocket", socket.socket)
    assert not handover.possible(plain)
