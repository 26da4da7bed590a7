# SPDX-License-Identifier: Apache-2.0
"""Writes that wait for the database: kept, in their order, and none of them lost."""

import threading

import pytest

from qinling_exec import exceptions
from qinling_exec.executions import outbox as module
from qinling_exec.executions.outbox import Outbox


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LAST_SECONDS", 0.2)


@pytest.fixture
def box():
    box = Outbox(limit=100)
    yield box
    box.stop()


class Writer:
    """Writes once what stands in its way is gone."""

    def __init__(self, done, word, obstacle=None):
        self.done, self.word, self.obstacle = done, word, obstacle
        self.tries = 0
        self.written = threading.Event()

    def __call__(self):
        self.tries += 1
        if self.obstacle is not None:
            raise self.obstacle
        self.done.append(self.word)
        self.written.set()


def tried(writer, times):
    while writer.tries < times:
        assert not writer.written.wait(0.01)


def test_they_are_written_in_their_order_when_the_database_is_back(box):
    done = []
    first = Writer(done, "first", exceptions.Unavailable("away"))
    last = Writer(done, "last")
    assert box.keep("a", "A", 1, first)
    assert box.keep("b", "B", 1, last)
    box.start()
    tried(first, 3)
    assert (done, last.tries) == ([], 0)
    assert box.has("a")
    assert not box.has("c")
    first.obstacle = None
    assert last.written.wait(5)
    assert done == ["first", "last"]


def test_one_that_is_refused_lets_the_others_pass_and_stays(box, caplog):
    done = []
    refused = Writer(done, "refused", ValueError("never"))
    other = Writer(done, "other")
    box.keep("a", "A", 1, refused)
    box.keep("b", "B", 1, other)
    box.start()
    assert other.written.wait(5)
    tried(refused, refused.tries + 2)
    assert box.has("a")
    assert caplog.text.count("A could not be written; it is tried again.") == 1
    refused.obstacle = None
    assert refused.written.wait(5)


def test_what_does_not_fit_is_not_kept_and_room_comes_back(box):
    done = []
    first = Writer(done, "first", exceptions.Unavailable("away"))
    assert box.keep("a", "A", 60, first)
    assert not box.keep("b", "B", 60, Writer(done, "never"))
    box.start()
    first.obstacle = None
    assert first.written.wait(5)
    while not box.keep("b", "B", 60, Writer(done, "second")):
        pass
    box.stop()
    assert done == ["first", "second"]


def test_the_end_says_what_could_not_be_written(box, caplog):
    box.start()
    box.keep("a", "The outcome of a", 1, Writer([], "never", exceptions.Unavailable("away")))
    box.stop()
    assert "The outcome of a could not be written." in caplog.text
