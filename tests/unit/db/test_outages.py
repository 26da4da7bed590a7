# SPDX-License-Identifier: Apache-2.0
"""A database that is down, silent or slow: errors come in time, and it heals by itself."""

import threading
import time

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db.engine import Database
from tests import databases
from tests.databases.proxy import Proxy
from tests.functional import processes

pytestmark = pytest.mark.every_server


@pytest.fixture(scope="module")
def own_server(database_kind):
    with databases.start(database_kind) as server:
        yield server


@pytest.fixture
def server(own_server):
    """A server that a test may stop."""
    if own_server.process is None:
        own_server.start()
    return own_server


@pytest.fixture
def near(conf, server):
    """A database whose server no other test uses now, with short limits."""
    conf.set_override("connection", server.url, "database")
    yield from open_database(conf)


def open_database(conf):
    conf.set_override("connect_timeout", 2, "database")
    conf.set_override("statement_timeout", 1, "database")
    conf.set_override("down_pause", 0.2, "database")
    conf.set_override("max_pool_size", 5, "database")
    conf.set_override("max_overflow", 0, "database")
    conf.set_override("pool_timeout", 1, "database")
    database = Database(conf)
    yield database
    database.close()


@pytest.fixture
def proxy(database_server):
    with Proxy(database_server.port) as proxy:
        yield proxy


@pytest.fixture
def far(conf, database_server, proxy):
    conf.set_override("connection", database_server.through(proxy.port), "database")
    yield from open_database(conf)


def look(database):
    with database.reader() as connection:
        return connection.execute(sa.text("SELECT 1")).scalar()


def heals(database, seconds=10):
    def works():
        try:
            return look(database) == 1
        except exceptions.Unavailable:
            return False
    return processes.wait_for(works, seconds)


def refusals(database, threads=1):
    """Look in several threads at once; return how long each was refused after, in seconds."""
    times = []

    def attempt():
        began = time.monotonic()
        with pytest.raises(exceptions.Unavailable) as caught:
            look(database)
        assert caught.value.headers["Retry-After"]
        times.append(time.monotonic() - began)

    running = [threading.Thread(target=attempt) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert len(times) == threads
    return times


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_ends_and_comes_back(near, server, end):
    assert look(near) == 1
    getattr(server, end)()
    refusals(near, 10)
    assert near.is_down
    server.start()
    assert heals(near)
    assert not near.is_down


def test_a_black_hole_is_given_up_in_time(far, proxy):
    assert look(far) == 1
    proxy.silence()
    assert max(refusals(far, 10)) < 8
    # From now on nobody waits, but for one that looks whether it is back.
    assert sorted(refusals(far, 10))[8] < 0.5
    proxy.heal()
    assert heals(far)


def test_a_hanging_server_is_given_up_in_time(near, server):
    """Its kernel goes on to take connections and bytes."""
    assert look(near) == 1
    server.pause()
    try:
        assert max(refusals(near, 10)) < 8
        assert sorted(refusals(near, 10))[8] < 0.5
    finally:
        server.resume()
    assert heals(near)


def test_refused_connections(far, proxy):
    proxy.refuse()
    refusals(far)
    assert max(refusals(far, 5)) < 8
    proxy.heal()
    assert heals(far)


def test_a_slow_statement_is_ended_and_the_database_is_not_taken_for_down(near, database_kind):
    slow = "SELECT pg_sleep(30)" if database_kind == "postgresql" else "SELECT SLEEP(30)"
    began = time.monotonic()
    with pytest.raises(exceptions.Unavailable), near.reader() as connection:
        if connection.execute(sa.text(slow)).scalar() == 1:  # MariaDB's SLEEP was interrupted
            raise exceptions.Unavailable
    assert time.monotonic() - began < 5
    assert look(near) == 1


def test_a_slow_network_is_waited_for_within_the_limits(far, proxy):
    proxy.delay(0.05)
    assert look(far) == 1
    proxy.delay(2.5)
    assert max(refusals(far, 3)) < 8
    proxy.heal()
    assert heals(far)


def test_a_lock_is_not_waited_for_for_ever(near):
    with near.writer() as connection:
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS held (a INTEGER)"))
        connection.execute(sa.text("INSERT INTO held VALUES (1)"))
    with near.writer() as first:
        first.execute(sa.text("UPDATE held SET a = 2"))
        began = time.monotonic()
        with pytest.raises(exceptions.Unavailable, match="busy"), near.writer() as second:
            second.execute(sa.text("UPDATE held SET a = 3"))
        assert time.monotonic() - began < 5


def test_more_threads_than_connections_are_refused_in_time(near):
    with near.reader(), near.reader(), near.reader(), near.reader(), near.reader():
        assert max(refusals(near, 10)) < 4
    assert look(near) == 1
    assert not near.is_down


def test_the_error_tells_nothing_of_the_database(near, server):
    server.stop()
    for _ in range(2):
        with pytest.raises(exceptions.Unavailable) as caught:
            look(near)
        for secret in ("qinling@", str(server.port), "127.0.0.1", "psycopg", "SELECT", "mysql"):
            assert secret not in str(caught.value)
