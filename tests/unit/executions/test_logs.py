# SPDX-License-Identifier: Apache-2.0
"""Logs are stored in pieces, in order, and never lost by a failed write."""

import contextlib
import random
import time

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import flusher as flusher_module
from qinling_exec.executions import logs, records, states
from qinling_exec.executions.flusher import Flusher

pytestmark = pytest.mark.every_database

FENCE = states.Fence("e", "me", 1)


def insert_running(database, execution_id):
    with database.writer() as connection:
        connection.execute(sa.insert(records.table), {
            "id": execution_id, "project_id": "p", "function_id": "f", "function_version": 0,
            "status": states.RUNNING, "sync": True, "created_at": utcnow(), "attempts": 1,
            "runner_id": "me",
        })


@pytest.fixture
def running(database):
    insert_running(database, "e")


def stored(database, execution_id="e"):
    with database.reader() as connection:
        return logs.read(connection, execution_id)


def test_pieces_follow_each_other(database, running):
    sink = logs.Sink(FENCE, 100)
    for part in (b"one", b"", b"two", b"three"):
        sink.write(part)
        with database.writer() as connection:
            pieces = sink.store(connection)
        sink.stored(pieces)
    assert stored(database) == b"onetwothree"


def test_a_failed_write_loses_nothing(database, running):
    sink = logs.Sink(FENCE, 100)
    sink.write(b"kept")
    with pytest.raises(RuntimeError), database.writer() as connection:
        sink.store(connection)
        raise RuntimeError
    sink.write(b" whole")
    with database.writer() as connection:
        sink.store(connection)
    assert stored(database) == b"kept whole"


def test_a_sink_keeps_no_more_than_its_limit(database, running):
    sink = logs.Sink(FENCE, 5)
    for _ in range(3):
        sink.write(b"abc")
    with database.writer() as connection:
        sink.store(connection)
    assert stored(database) == b"abcab"


@pytest.fixture
def flusher(database):
    stored = []
    flusher = Flusher(database, stored.extend)
    flusher.seen = stored
    yield flusher
    flusher.stop()


def wait(condition):
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize(("fence", "expected"), [
    (FENCE, b"early"), (states.Fence("e", "other", 1), b""), (states.Fence("e", "me", 2), b""),
])
def test_the_flusher_stores_while_the_run_goes_on_for_its_owner_alone(
        database, running, flusher, fence, expected):
    flusher.start()
    sink = logs.Sink(fence, 100)
    flusher.add(sink)
    sink.write(b"early")
    wait(lambda: not sink.waiting)
    flusher.remove(sink)
    assert stored(database) == expected


def test_many_runs_are_stored_in_one_transaction(database, flusher, monkeypatch):
    sinks = []
    for number in range(50):
        insert_running(database, f"e{number}")
        sinks.append(logs.Sink(states.Fence(f"e{number}", "me", 1), 100))
        flusher.add(sinks[-1])
        sinks[-1].write(b"%d" % number)
    opened = []
    writer = database.writer
    monkeypatch.setattr(database, "writer", lambda: opened.append(1) or writer())
    flusher.flush()
    assert len(opened) == 1
    assert sorted(flusher.seen) == sorted(f"e{number}" for number in range(50))
    for number in range(50):
        assert stored(database, f"e{number}") == b"%d" % number


def test_what_one_transaction_does_not_take_comes_in_the_next(database, running, flusher,
                                                              monkeypatch):
    monkeypatch.setattr(flusher_module, "_BYTES", 10)
    monkeypatch.setattr(flusher_module, "_BATCH", 2)
    sinks = [logs.Sink(FENCE, 100)]
    for number in range(3):
        insert_running(database, f"e{number}")
        sinks.append(logs.Sink(states.Fence(f"e{number}", "me", 1), 100))
    for sink in sinks:
        flusher.add(sink)
        sink.write(b"twelve bytes")
    flusher.flush()
    for sink in sinks:
        assert stored(database, sink.fence.execution_id) == b"twelve bytes"


def test_the_database_may_be_away_for_a_while(database, running, flusher, monkeypatch):
    monkeypatch.setattr(flusher_module, "_AWAY_SECONDS", 0.01)
    tried = []

    def away():
        tried.append(1)
        raise exceptions.Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(database, "writer", away)
        flusher.start()
        sink = logs.Sink(FENCE, 12)
        flusher.add(sink)
        sink.write(b"kept ")
        wait(lambda: len(tried) > 3)
        for _ in range(100):
            sink.write(b"bytes")
        assert sink.waiting == 12
    wait(lambda: not sink.waiting)
    assert stored(database) == b"kept bytesby"


def test_a_commit_of_which_nobody_knows_stores_nothing_twice(database, running, flusher,
                                                             monkeypatch):
    sink = logs.Sink(FENCE, 100)
    flusher.add(sink)
    sink.write(b"one")
    writer = database.writer

    @contextlib.contextmanager
    def cut():
        with writer() as connection:
            yield connection
        raise exceptions.Unavailable

    with monkeypatch.context() as patch, pytest.raises(exceptions.Unavailable):
        patch.setattr(database, "writer", cut)
        flusher.flush()
    sink.write(b"two")
    flusher.flush()
    assert stored(database) == b"onetwo"


def test_another_attempt_goes_on_behind_the_first(database, running):
    first = logs.Sink(FENCE, 100)
    first.write(b"first\n")
    second = logs.Sink(states.Fence("e", "me", 2), 100)
    second.write(b"second\n")
    for sink in (first, second):
        with database.writer() as connection:
            sink.store(connection)
    assert stored(database) == b"first\n[Attempt 2 begins here.]\nsecond\n"


def test_large_output_is_stored_in_pieces_and_read_in_part(database, running, monkeypatch):
    data = random.Random(1).randbytes(5 * logs.PIECE // 2)
    sink = logs.Sink(FENCE, len(data))
    sink.write(data)
    with database.writer() as connection:
        sink.store(connection)
    with database.reader() as connection:
        assert logs.size(connection, "e") == len(data)
        pieces = list(connection.execute(sa.select(logs._table.c.data)).scalars())
        assert [len(piece) for piece in pieces] == [logs.PIECE, logs.PIECE, logs.PIECE // 2]
        for begin in (0, 1, logs.PIECE - 1, logs.PIECE, logs.PIECE + 1, len(data) - 1, len(data)):
            for end in (begin, begin + 1, begin + logs.PIECE, len(data), None):
                assert logs.read(connection, "e", begin, end) == data[begin:end], (begin, end)


def test_a_part_is_read_without_the_rest(database, running):
    sink = logs.Sink(FENCE, 10 * logs.PIECE)
    sink.write(b"x" * 10 * logs.PIECE)
    with database.writer() as connection:
        sink.store(connection)
    with database.reader() as connection:
        read = []
        execute = connection.execute

        def counting(query):
            result = execute(query)
            rows = result.all()
            read.extend(row for row in rows if len(row) > 1)
            return Rows(rows)

        connection.execute = counting
        logs.read(connection, "e", 5 * logs.PIECE + 1, 5 * logs.PIECE + 2)
    assert len(read) == 1


class Rows:
    def __init__(self, rows):
        self.rows = rows

    def all(self):
        return self.rows

    def scalar(self):
        return self.rows[0][0]
