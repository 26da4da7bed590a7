# SPDX-License-Identifier: Apache-2.0
"""Messages between processes: heard at once here, and everywhere on PostgreSQL."""

import queue
import threading
import time

import pytest
import sqlalchemy as sa

from qinling_exec.db import wakeup
from qinling_exec.db.engine import Database
from tests.functional import processes

pytestmark = pytest.mark.every_database


@pytest.fixture
def two(conf, database):
    """Two processes' ends, as far as the database can tell."""
    other = Database(conf)
    ends = wakeup.Wakeup(database), wakeup.Wakeup(other)
    for end in ends:
        end.start()
    yield ends
    for end in ends:
        end.stop()
    other.close()


def test_the_own_process_hears_at_once(two):
    heard = []
    two[0].listen(wakeup.ENDED, heard.append)
    two[0].send(wakeup.ENDED, "an-id")
    assert heard == ["an-id"]
    two[0].ring()
    assert two[0].wait(0)
    assert not two[0].wait(0)


def test_a_rest_ends_early_only_for_who_has_nothing_yet(two):
    bell = two[0]
    bell.crowd = {"has-much"}
    for ring in (bell.wake, lambda: bell.ring("has-much")):
        ring()
        began = time.monotonic()
        assert bell.wait(5, rest=0.3)  # not forgotten, and not before
        assert 0.3 <= time.monotonic() - began < 4
    bell.ring("has-much")
    threading.Timer(0.1, bell.ring, ["has-nothing"]).start()
    began = time.monotonic()
    assert bell.wait(30, rest=20)
    assert time.monotonic() - began < 15
    assert not bell.wait(0)


def test_others_hear_on_postgresql_alone(two, database):
    postgresql = database.kind == "postgresql"
    assert processes.wait_for(lambda: two[0].prompt and two[1].prompt,
                              10 if postgresql else 0) == postgresql
    heard = queue.Queue()
    two[1].listen(wakeup.CANCEL, heard.put)
    two[0].send(wakeup.CANCEL, "an id with spaces")
    two[0].ring()
    if postgresql:
        assert heard.get(timeout=10) == "an id with spaces"
        assert two[1].wait(10)
    else:
        assert not two[1].wait(0.2)


def test_many_messages_at_once_all_arrive(two, database):
    if database.kind != "postgresql":
        pytest.skip("no messages between processes on this database")
    assert processes.wait_for(lambda: two[0].prompt and two[1].prompt, 10)
    heard = set()
    two[1].listen(wakeup.ENDED, heard.add)
    wanted = {f"{sender}-{number}" for sender in range(4) for number in range(100)}

    def send(sender):
        for number in range(100):
            two[0].send(wakeup.ENDED, f"{sender}-{number}")

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert processes.wait_for(lambda: heard == wanted, 10)


def test_a_lost_connection_is_made_again(two, database):
    if database.kind != "postgresql":
        pytest.skip("no messages between processes on this database")
    assert processes.wait_for(lambda: two[0].prompt and two[1].prompt, 10)
    with database.writer() as connection:
        connection.execute(sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        ))
    assert processes.wait_for(lambda: not (two[0].prompt and two[1].prompt), 10)
    assert processes.wait_for(lambda: two[0].prompt and two[1].prompt, 10)
    heard = queue.Queue()
    two[1].listen(wakeup.ENDED, heard.put)
    two[0].send(wakeup.ENDED, "after")
    assert heard.get(timeout=10) == "after"


def test_looks_are_frequent_while_something_is_found_and_rare_when_not(database):
    pace = wakeup.Pace(wakeup.Wakeup(database))
    assert pace.after(True) <= 0.05
    pauses = [pace.after(False) for _ in range(60)]
    assert pauses[0] <= 0.05
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0
    assert pace.after(True) <= 0.05


def test_alone_nothing_has_to_be_looked_for(database):
    pace = wakeup.Pace(wakeup.Wakeup(database, alone=True))
    pace.after(True)
    assert pace.after(False) == 1.0
