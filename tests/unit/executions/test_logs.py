# SPDX-License-Identifier: Apache-2.0
"""Logs are stored in pieces, in order, and never lost by a failed write."""

import time

import pytest
import sqlalchemy as sa

from qinling_exec.db.engine import utcnow
from qinling_exec.executions import logs, records, states

FENCE = states.Fence("e", "me", 1)


@pytest.fixture
def running(database):
    with database.writer() as connection:
        connection.execute(sa.insert(records.table), {
            "id": "e", "project_id": "p", "function_id": "f", "function_version": 0,
            "status": states.RUNNING, "sync": True, "created_at": utcnow(), "attempts": 1,
            "runner_id": "me",
        })


def stored(database):
    with database.reader() as connection:
        return logs.read(connection, "e")


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


@pytest.mark.parametrize(("fence", "expected"), [
    (FENCE, b"early"), (states.Fence("e", "other", 1), b""), (states.Fence("e", "me", 2), b""),
])
def test_the_flusher_stores_while_the_run_goes_on_for_its_owner_alone(
        database, running, fence, expected):
    lost = []
    flusher = logs.Flusher(database, lost.append)
    flusher.start()
    sink = logs.Sink(fence, 100)
    flusher.add(sink)
    sink.write(b"early")
    until = time.monotonic() + 5
    while sink.waiting and time.monotonic() < until:
        time.sleep(0.01)
    until = time.monotonic() + 5
    while fence != FENCE and not lost and time.monotonic() < until:
        time.sleep(0.01)
    flusher.remove(sink)
    flusher.stop()
    assert stored(database) == expected
    assert set(lost) == (set() if fence == FENCE else {"e"})
