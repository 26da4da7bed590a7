# SPDX-License-Identifier: Apache-2.0
"""How connections to SQLite are set up, and what errors become."""

import stat
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy import pool

from qinling_exec import exceptions
from qinling_exec.db.engine import Database


def test_sqlite_is_pooled_durable_and_checks_foreign_keys(database):
    assert isinstance(database.engine.pool, pool.QueuePool)
    with database.reader() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1,
                       "busy_timeout": 15000}


def test_the_database_file_is_private(database):
    mode = stat.S_IMODE(database.engine.url.database and
                        __import__("os").stat(database.engine.url.database).st_mode)
    assert mode == 0o600


def test_a_writer_is_rolled_back_by_an_exception(database):
    with pytest.raises(RuntimeError), database.writer() as connection:
        connection.exec_driver_sql("INSERT INTO packages VALUES ('a', 'b', 1)")
        raise RuntimeError
    with database.reader() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM packages").scalar() == 0


def test_writers_that_read_first_do_not_collide(database):
    """A deferred transaction that reads, then writes, fails when another wrote in between."""
    failures = []

    def add():
        try:
            for _ in range(20):
                with database.writer() as connection:
                    size = connection.exec_driver_sql("SELECT count(*) FROM packages").scalar()
                    connection.execute(sa.text("INSERT INTO packages VALUES (:s, 'm', 1)"),
                                       {"s": f"{threading.get_ident()}-{size}"})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.reader() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM packages").scalar() == 80


def test_a_database_in_memory_is_refused(conf):
    conf.set_override("connection", "sqlite://", "database")
    with pytest.raises(exceptions.InputError, match="must be a file"):
        Database(conf)


def test_a_full_disk_is_told_apart(database):
    with pytest.raises(exceptions.InsufficientStorage), database.writer():
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))
