# SPDX-License-Identifier: Apache-2.0
"""How connections to SQLite are set up, and what errors become."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

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


def test_mariadb_in_the_url_is_mysql(conf):
    """With a dialect of that name oslo.db knows no errors: no schema could be made."""
    conf.set_override("connection", "mariadb+pymysql://qinling@127.0.0.1:9/q", "database")
    with contextlib.closing(Database(conf)) as database:
        assert (database.kind, database.engine.dialect.name) == ("mysql", "mysql")


def test_another_program_that_leaves_does_not_take_the_log_away(conf, database):
    """Locks of a process end when it closes the file anywhere: then the log was deleted."""
    path = database.engine.url.database
    with database.writer() as connection:
        connection.exec_driver_sql("INSERT INTO packages VALUES ('a', 'b', 1)")
    Database(conf).close()
    program = f"import sqlite3; c = sqlite3.connect({path!r}); c.execute('SELECT * FROM packages')"
    subprocess.run([sys.executable, "-c", f"{program}; c.close()"], check=True, timeout=30)
    assert os.path.exists(f"{path}-wal")
    with database.writer() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM packages").scalar() == 1


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


def test_who_writes_on_sqlite_has_the_write_lock_from_the_beginning(conf, database):
    """Other processes wait; they would fail what has read before it writes."""
    path = sa.make_url(conf.database.connection).database
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with database.writer():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
        with database.reader() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        other.execute("ROLLBACK")
    with database.writer():
        pass


def test_who_writes_may_read_on_another_connection(database):
    with database.writer(), database.reader() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


@pytest.mark.every_server
def test_threads_of_an_engine_do_not_connect_anew_for_each_run_that_ends(database):
    made = []
    sa.event.listen(database.engine, "connect", lambda *_: made.append(1))
    together = threading.Barrier(16)

    def end_runs(_):
        for _ in range(5):
            with database.reader() as connection:
                connection.execute(sa.text("SELECT 1"))
                together.wait(30)
            together.wait(30)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(end_runs, range(16)))
    assert len(made) <= 20
