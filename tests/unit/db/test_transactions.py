# SPDX-License-Identifier: Apache-2.0
"""What is tried again, and what becomes of a commit whose answer was lost."""

import itertools
import threading

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db import models
from qinling_exec.db.engine import Database
from tests.databases.proxy import Proxy, is_commit

TABLE = models.Package.__table__


def add(name):
    def work(connection):
        connection.execute(sa.insert(TABLE), {"sha256": name, "md5": "", "size": 0})
        return "stored"
    return work


def found(name):
    def settled(connection):
        query = sa.select(TABLE.c.sha256).where(TABLE.c.sha256 == name).with_for_update()
        return "found" if connection.execute(query).first() else None
    return settled


def take(expected, value):
    """Compare and set; tell whether the row was as expected."""
    def work(connection):
        changed = connection.execute(sa.update(TABLE).where(
            TABLE.c.sha256 == "row", TABLE.c.size == expected).values(size=value))
        return bool(changed.rowcount)
    return work


def taken(value):
    def settled(connection):
        query = sa.select(TABLE.c.size).where(TABLE.c.sha256 == "row").with_for_update()
        return True if connection.execute(query).scalar() == value else None
    return settled


def names(database):
    with database.reader() as connection:
        return connection.execute(sa.select(TABLE.c.sha256)).scalars().all()


@pytest.fixture
def proxy(database_server):
    with Proxy(database_server.port) as proxy:
        yield proxy


@pytest.fixture
def far(conf, database, database_server, proxy):
    """The database, reached through a proxy."""
    conf.set_override("connection", database_server.through(proxy.port, conf.database.connection),
                      "database")
    far = Database(conf)
    names(far)  # to connect may need a commit as well
    yield far
    far.close()


@pytest.mark.every_server
@pytest.mark.parametrize(("moment", "expected", "runs"), [
    ("to_server", "stored", 2), ("answer_to", "found", 1),
])
def test_a_commit_whose_answer_is_lost_is_looked_up(database, far, proxy, moment, expected, runs):
    calls = []

    def work(connection):
        if not calls:
            proxy.cut_at(moment, is_commit)
        calls.append(1)
        return add("one")(connection)

    assert far.transact(work, found("one")) == expected
    assert proxy.did_cut.is_set()
    assert len(calls) == runs
    assert names(database) == ["one"]


@pytest.mark.every_server
@pytest.mark.parametrize("moment", ["to_server", "answer_to"])
def test_a_compare_and_set_whose_commit_is_lost_is_not_taken_for_refused(
        database, far, proxy, moment):
    with database.writer() as connection:
        add("row")(connection)
    proxy.cut_at(moment, is_commit)
    assert far.transact(take(0, 7), taken(7)) is True
    assert proxy.did_cut.is_set()
    assert far.transact(take(0, 8), taken(8)) is False


@pytest.mark.every_server
@pytest.mark.parametrize("moment", ["to_server", "answer_to"])
def test_without_a_way_to_look_an_unknown_outcome_is_said_to_be_one(far, proxy, moment):
    proxy.cut_at(moment, is_commit)
    with pytest.raises(exceptions.Unavailable, match="may be stored or not"):
        far.transact(add("one"))
    names(far)
    proxy.cut_at(moment, is_commit)
    with pytest.raises(exceptions.Unavailable, match="may be stored or not"):
        with far.writer() as connection:
            add("two")(connection)


@pytest.mark.every_server
def test_what_is_lost_before_the_commit_is_done_again(database, far, proxy):
    calls = []

    def work(connection):
        calls.append(1)
        result = add("one")(connection)
        if len(calls) == 1:
            proxy.cut()
        connection.execute(sa.select(TABLE)).all()
        return result

    assert far.transact(work) == "stored"
    assert len(calls) == 2
    assert names(database) == ["one"]


@pytest.mark.every_server
def test_a_connection_that_died_in_the_pool_is_not_met(far, proxy, database):
    for _ in range(3):
        with far.writer() as connection:
            connection.execute(sa.select(TABLE)).all()
        proxy.cut()
    assert names(far) == []


@pytest.mark.every_server
def test_deadlocks_are_resolved_by_a_second_try(database):
    with database.writer() as connection:
        add("a")(connection)
        add("b")(connection)
    both = threading.Barrier(2, timeout=10)
    tries = []

    def swap(first, second):
        calls = []

        def work(connection):
            calls.append(1)
            tries.append(1)
            for name in (first, second):
                connection.execute(sa.update(TABLE).where(TABLE.c.sha256 == name)
                                   .values(size=TABLE.c.size + 1))
                if len(calls) == 1 and name == first:
                    both.wait()
        database.transact(work)

    threads = [threading.Thread(target=swap, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) > 2
    with database.reader() as connection:
        assert connection.execute(sa.select(TABLE.c.size)).scalars().all() == [2, 2]


def conflict(database):
    """Return an error of the driver, as it comes from a deadlock."""
    if database.kind == "postgresql":
        import psycopg
        return psycopg.errors.DeadlockDetected("deadlock detected")
    import pymysql
    return pymysql.err.OperationalError(1213, "WSREP detected deadlock/conflict and aborted the"
                                              " transaction. Try restarting the transaction")


@pytest.mark.every_server
@pytest.mark.parametrize("every", [2, 3, 7])
def test_compare_and_set_holds_when_every_nth_statement_fails(database, every):
    with database.writer() as connection:
        add("row")(connection)
    numbers = itertools.count(1)

    def fail(_cursor, _statement, _parameters, _context):
        if next(numbers) % every == 0:
            raise conflict(database)

    sa.event.listen(database.engine, "do_execute", fail)
    try:
        for value in range(30):
            assert database.transact(take(value, value + 1)) is True
            assert database.transact(take(value, value + 1)) is False
    finally:
        sa.event.remove(database.engine, "do_execute", fail)


@pytest.mark.every_server
def test_tries_end(database):
    def fail(_cursor, _statement, _parameters, _context):
        calls.append(1)
        raise conflict(database)

    calls = []
    assert names(database) == []
    sa.event.listen(database.engine, "do_execute", fail)
    try:
        with pytest.raises(exceptions.Unavailable, match="busy"):
            database.transact(add("one"))
        assert len(calls) == 8
        with pytest.raises(exceptions.Unavailable, match="busy"), database.writer() as connection:
            add("one")(connection)
    finally:
        sa.event.remove(database.engine, "do_execute", fail)
    assert names(database) == []


@pytest.mark.every_database
def test_an_error_of_the_work_itself_is_not_repeated(database):
    calls = []

    def work(connection):
        calls.append(1)
        add("one")(connection)
        raise exceptions.Conflict("no")

    with pytest.raises(exceptions.Conflict):
        database.transact(work)
    assert calls == [1]
    assert names(database) == []


@pytest.mark.every_database
def test_a_duplicate_is_the_caller_s_to_judge(database):
    database.transact(add("one"))
    with pytest.raises(Exception, match=r"(?i)duplicate|unique") as caught:
        database.transact(add("one"), found("one"))
    assert not isinstance(caught.value, exceptions.ServiceError)


@pytest.mark.every_server
def test_a_connection_to_what_is_read_only_is_thrown_away(database, far, proxy):
    """After a failover the address may lead to another server, the open connection does not."""
    read_only = {"postgresql": "SET TRANSACTION READ ONLY",
                 "mysql": "START TRANSACTION READ ONLY"}[far.kind]
    calls = []

    def work(connection):
        calls.append(connection.connection.driver_connection)
        if len(calls) == 1:
            connection.exec_driver_sql(read_only)
        return add("one")(connection)

    before = proxy.accepted
    assert far.transact(work) == "stored"
    assert len(calls) == 2
    assert calls[0] is not calls[1]
    assert proxy.accepted == before + 1
    assert names(database) == ["one"]
