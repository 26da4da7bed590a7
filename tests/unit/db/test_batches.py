# SPDX-License-Identifier: Apache-2.0
"""Writers of SQLite: whose turn it is, and which of them share a commit."""

import threading
import time

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.context import RequestContext
from qinling_exec.db import models
from qinling_exec.db.engine import Database

_table = models.Package.__table__


class Crowd:
    """Threads that write, of several projects.

    :ivar order: of those that came to write.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.order: list[str] = []
        self.errors: dict[str, BaseException] = {}
        self._threads: list[threading.Thread] = []

    def come(self, name: str, project: str, error: BaseException | None = None) -> None:
        """Have one more writer stand in line; it stands there when this returns."""
        def write() -> None:
            RequestContext(project_id=project)
            try:
                with self._database.writer() as connection:
                    self.order.append(name)
                    insert(connection, name)
                    if error is not None:
                        raise error
            except BaseException as caught:
                self.errors[name] = caught

        before = self._waiting()
        self._threads.append(threading.Thread(target=write))
        self._threads[-1].start()
        until = time.monotonic() + 10
        while self._waiting() == before:
            assert time.monotonic() < until
            time.sleep(0.001)

    def _waiting(self) -> int:
        lines = self._database._writing.__self__._turns._lines
        return sum(map(len, lines.values()))

    def join(self) -> None:
        """Wait for all of them."""
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def insert(connection: sa.Connection, name: str) -> None:
    connection.execute(sa.insert(_table), {"sha256": name, "md5": name, "size": 1})


def stored(database: Database) -> set[str]:
    with database.reader() as connection:
        return set(connection.execute(sa.select(_table.c.sha256)).scalars())


@pytest.fixture
def crowd(database):
    return Crowd(database)


@pytest.fixture
def commits(database):
    """Return a list that gets something for each commit."""
    seen: list[object] = []
    sa.event.listen(database.engine, "commit", lambda connection: seen.append(connection))
    return seen


def test_a_project_that_floods_makes_another_wait_for_one_of_its_writers(database, crowd):
    with database.writer():
        for number in range(20):
            crowd.come(f"a{number}", "a")
        crowd.come("b0", "b")
        crowd.come("b1", "b")
        crowd.come("c0", "c")
    crowd.join()
    assert crowd.order[:6] == ["a0", "b0", "c0", "a1", "b1", "a2"]
    assert stored(database) == set(crowd.order) and len(crowd.order) == 23


def test_writers_that_wait_share_a_commit(database, crowd, commits):
    with database.writer() as connection:
        insert(connection, "first")
        for number in range(10):
            crowd.come(f"a{number}", "a")
        time.sleep(0.03)  # longer than a transaction is handed on: the ten have one of their own
    crowd.join()
    assert len(stored(database)) == 11
    assert len(commits) < 6


def test_no_writer_goes_on_before_its_commit(database, crowd, monkeypatch):
    """What is answered with 2xx is on the disk."""
    seen: list[tuple[bool, set[str]]] = []
    with database.writer():
        crowd.come("a0", "a")
        crowd.come("a1", "a")
        batch = database._writing.__self__._open
        end = batch.end

        def look_and_end() -> None:
            first = crowd._threads[0]
            first.join(0.1)
            seen.append((first.is_alive(), stored(database)))
            end()

        monkeypatch.setattr(batch, "end", look_and_end)
        monkeypatch.setattr(batch, "_until", time.monotonic() + 10)  # also on a busy machine
    crowd.join()
    assert seen == [(True, set())]
    assert stored(database) == {"a0", "a1"}


def test_a_writer_that_fails_takes_back_its_own_part(database, crowd):
    with database.writer() as connection:
        insert(connection, "first")
        crowd.come("a0", "a")
        crowd.come("a1", "a", error := RuntimeError("of a1 alone"))
        crowd.come("a2", "a")
    crowd.join()
    assert crowd.errors == {"a1": error}
    assert stored(database) == {"first", "a0", "a2"}


def test_what_a_writer_saw_is_stored_before_it_fails_of_it(database, crowd, monkeypatch):
    """A cancel was refused because the execution had ended, and a look found it running."""
    seen: list[object] = []

    def refuse() -> None:
        try:
            with database.writer() as connection:
                query = sa.select(_table.c.sha256).where(_table.c.sha256 == "first")
                seen.append(connection.execute(query).scalar())
                raise RuntimeError("It is there already.")
        except RuntimeError:
            seen.append(stored(database))

    with database.writer() as connection:
        insert(connection, "first")
        batch = database._writing.__self__._open
        monkeypatch.setattr(batch, "_until", time.monotonic() + 10)  # also on a busy machine
        end = batch.end
        monkeypatch.setattr(batch, "end", lambda: (time.sleep(0.2), end()))
        before = crowd._waiting()
        thread = threading.Thread(target=refuse)
        thread.start()
        while crowd._waiting() == before:
            time.sleep(0.001)
        crowd.come("a0", "a")  # goes on with the transaction, and ends it
    thread.join(10)
    crowd.join()
    assert seen == ["first", {"first", "a0"}]


def test_the_first_writer_that_fails_leaves_nothing_to_the_next(database, crowd):
    with pytest.raises(RuntimeError), database.writer() as connection:
        insert(connection, "first")
        crowd.come("a0", "a")
        raise RuntimeError
    crowd.join()
    assert crowd.errors == {}
    assert stored(database) == {"a0"}


def test_a_commit_that_fails_is_told_to_all_who_wrote(database, crowd):
    """None of them may answer that it was stored."""
    def fail(_connection: object) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("database or disk is full"))

    sa.event.listen(database.engine, "commit", fail)
    with pytest.raises(exceptions.InsufficientStorage, match="Nothing was stored") as caught, \
            database.writer() as connection:
        insert(connection, "first")
        crowd.come("a0", "a")
        crowd.come("a1", "a")
    crowd.join()
    sa.event.remove(database.engine, "commit", fail)
    assert set(crowd.errors) == {"a0", "a1"}
    assert {str(error) for error in crowd.errors.values()} == {str(caught.value)}
    with database.writer() as connection:  # and the next one finds nothing of it
        insert(connection, "later")
    assert stored(database) == {"later"}


def test_a_transaction_that_the_database_gave_up_is_nobodys_success(database, crowd):
    """SQLite rolls all of it back on some errors, savepoints included."""
    class GivenUp(RuntimeError):
        """Raised after the database has rolled back."""

    def before(connection, _cursor, _statement, parameters, *_more) -> None:
        if "gives-up" in str(parameters):
            connection.connection.driver_connection.execute("ROLLBACK")
            raise GivenUp

    sa.event.listen(database.engine, "before_cursor_execute", before)
    with pytest.raises(GivenUp), database.writer() as connection:
        insert(connection, "first")
        database._writing.__self__._open._until += 10  # also on a busy machine
        crowd.come("gives-up", "a")
        crowd.come("a1", "a")
    crowd.join()
    assert set(crowd.errors) == {"gives-up"}
    assert stored(database) == {"a1"}
