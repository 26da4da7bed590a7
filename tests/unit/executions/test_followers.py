# SPDX-License-Identifier: Apache-2.0
"""Followers: one thread sends logs to many sockets, and waits for none of them."""

import socket
import threading
import time

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import followers as module
from qinling_exec.executions import logs, records, states, tails
from qinling_exec.executions.follower import Follow, Follower
from qinling_exec.executions.followers import Followers

pytestmark = pytest.mark.every_database


@pytest.fixture
def followers(database):
    followers = Followers(database, 3, 1, patience=60)
    yield followers
    followers.stop()


@pytest.fixture
def connect(followers):
    """Have a client follow a log; return its end of the connection."""
    clients = []

    def follow(place=0, left=None, begin=b"", chunked=False, execution="e"):
        client, server = socket.socketpair()
        client.settimeout(20)
        clients.append(client)
        followers.add(Follower(server, Follow(execution, place, left, begin), b"head|", chunked))
        return client

    yield follow
    for client in clients:
        client.close()


class Run:
    """A running execution that prints."""

    def __init__(self, database, execution="e"):
        self.database = database
        self.sink = logs.Sink(states.Fence(execution, "me", 1), 10_000_000)
        with database.writer() as connection:
            connection.execute(sa.insert(records.table), {
                "id": execution, "project_id": "p", "function_id": "f", "function_version": 0,
                "status": states.RUNNING, "sync": True, "created_at": utcnow(), "attempts": 1,
                "runner_id": "me",
            })

    def say(self, data):
        self.sink.write(data)
        with self.database.writer() as connection:
            count = self.sink.store(connection)
        self.sink.stored(count)

    def end(self):
        with self.database.writer() as connection:
            records.end(connection, self.sink.fence, states.Outcome(states.SUCCESS, {}))

    def delete(self):
        with self.database.writer() as connection:
            connection.execute(sa.delete(records.table))


@pytest.fixture
def run(database):
    return Run(database)


def receive(client, count=None):
    """Receive so many bytes, or all until the end."""
    data = b""
    while count is None or len(data) < count:
        part = client.recv(65536 if count is None else count - len(data))
        if not part:
            break
        data += part
    return data


def test_what_is_there_what_comes_and_the_end(run, connect):
    run.say(b"one")
    client = connect()
    assert receive(client, 8) == b"head|one"
    run.say(b"two")
    assert receive(client, 3) == b"two"
    run.say(b"three")
    run.end()
    assert receive(client) == b"three"


def test_chunks_end_with_an_empty_one(run, connect):
    run.say(b"x" * 20)
    client = connect(chunked=True)
    assert receive(client, 5 + 26) == b"head|14\r\n" + b"x" * 20 + b"\r\n"
    run.end()
    assert receive(client) == b"0\r\n\r\n"


def test_a_part_with_bytes_out_of_the_midst_of_a_piece(run, connect):
    run.say(b"0123456789")
    run.say(b"abcdef")
    client = connect(place=10, left=2, begin=b"89")
    assert receive(client) == b"head|89ab"
    assert receive(connect(place=10, left=0, begin=b"8")) == b"head|8"


def test_a_deleted_execution_is_no_proper_end(run, connect):
    client = connect(chunked=True)
    assert receive(client, 5) == b"head|"
    run.delete()
    assert receive(client) == b""


def test_a_long_log_comes_in_windows(run, connect):
    data = bytes(range(256)) * 3 * (tails.WINDOW // 256)
    run.say(data)
    run.end()
    assert receive(connect()) == b"head|" + data


def test_who_does_not_read_keeps_nobody_waiting_and_holds_little(run, connect, followers):
    stalled = connect()
    for _ in range(60):
        run.say(b"y" * tails.WINDOW)
    other = connect()
    run.end()
    assert len(receive(other)) == 5 + 60 * tails.WINDOW
    (follower,) = followers._all
    assert sum(map(len, follower._out)) <= 2 * tails.WINDOW
    assert len(receive(stalled)) == 5 + 60 * tails.WINDOW


def test_who_goes_away_is_forgotten(run, connect, followers):
    client = connect()
    assert receive(client, 5) == b"head|"
    client.close()
    until = time.monotonic() + 10
    while followers._followed and time.monotonic() < until:
        time.sleep(0.01)
    assert not followers._followed and not followers._all
    run.say(b"to nobody")


def test_what_a_client_sends_meanwhile_is_thrown_away(run, connect):
    client = connect()
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    run.say(b"log")
    assert receive(client, 8) == b"head|log"


def test_no_more_than_the_limit(run, connect, followers):
    for _ in range(3):
        followers.check()
        connect()
    with pytest.raises(exceptions.Unavailable, match="3 clients"):
        followers.check()


def test_the_database_may_be_away_for_a_while(run, connect, followers, database, monkeypatch):
    monkeypatch.setattr(module, "_AWAY_SECONDS", 0.01)
    client = connect()
    assert receive(client, 5) == b"head|"
    failed = threading.Event()
    look = tails.look

    def away(*given):
        failed.set()
        raise exceptions.Unavailable

    monkeypatch.setattr(tails, "look", away)
    assert failed.wait(10)
    monkeypatch.setattr(tails, "look", look)
    run.say(b"back")
    assert receive(client, 4) == b"back"


def test_what_is_stored_here_is_looked_at_at_once(run, connect, followers, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 600)
    client = connect()
    assert receive(client, 5) == b"head|"
    until = time.monotonic() + 10
    while followers._next_look < time.monotonic() and time.monotonic() < until:
        time.sleep(0.01)
    run.say(b"now")
    followers.stored(["another"])
    followers.stored(["e"])
    assert receive(client, 3) == b"now"


def test_looks_at_many_in_few_queries(database, monkeypatch):
    for number in range(30):
        Run(database, f"e{number}").say(b"%d" % number)
    opened = []
    reader = database.reader
    monkeypatch.setattr(database, "reader", lambda: opened.append(1) or reader())
    found = tails.look(database, {**{f"e{number}": {0, 1} for number in range(30)}, "no": {0}})
    assert len(opened) == 1
    assert [found[f"e{number}"].behind(0) for number in (0, 12)] == [[b"0"], [b"12"]]
    assert found["e0"].behind(1) == [] and not found["e0"].ended
    assert found["no"].status is None


def test_a_stream_in_the_thread_of_the_server(run, followers):
    run.say(b"one")
    run.say(b"two")
    run.end()
    stream = followers.stream(Follow("e", 3, None, b"ne"))
    with pytest.raises(exceptions.Unavailable):
        followers.stream(Follow("e", 0, None))
    assert list(stream) == [b"ne", b"two"]
    stream.close()
    stream.close()
    # What is empty has a server send the head of the reply at once.
    assert list(followers.stream(Follow("e", 0, 4))) == [b"", b"one", b"t"]


def test_a_stream_of_what_is_deleted_breaks(run, followers):
    run.say(b"one")
    stream = followers.stream(Follow("e", 0, None))
    assert [next(stream), next(stream)] == [b"", b"one"]
    run.delete()
    with pytest.raises(ConnectionResetError):
        next(stream)


def test_stopping_breaks_the_connections(run, connect, followers):
    client = connect(chunked=True)
    assert receive(client, 5) == b"head|"
    followers.stop()
    assert receive(client) == b""
    followers.__init__(run.database, 3, 1, 60)  # the fixture stops it again


@pytest.fixture
def impatient(database):
    followers = Followers(database, 1, 1, patience=0.3)
    yield followers
    followers.stop()


def test_who_does_not_read_for_long_loses_its_place(run, impatient):
    """A client that stopped reading held one of the places of a process for ever."""
    run.say(b"x" * 2**20)
    client, server = socket.socketpair()
    with client:
        impatient.add(Follower(server, Follow("e", 0, None), b"head|", chunked=False))
        with pytest.raises(exceptions.Unavailable):
            impatient.check()
        until = time.monotonic() + 20
        while impatient._followed and time.monotonic() < until:
            time.sleep(0.02)
        impatient.check()
        client.settimeout(20)
        assert len(receive(client)) < 2**20


def test_who_reads_slowly_or_waits_for_more_keeps_it(run, impatient):
    client, server = socket.socketpair()
    client.settimeout(20)
    with client:
        impatient.add(Follower(server, Follow("e", 0, None), b"head|", chunked=False))
        assert receive(client, 5) == b"head|"
        time.sleep(0.7)  # there is nothing that it could take
        run.say(b"x" * 2**20)
        got = 0
        while got < 2**20:
            got += len(client.recv(2**18))
            time.sleep(0.05)
        run.end()
        assert receive(client) == b""
