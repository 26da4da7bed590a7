# SPDX-License-Identifier: Apache-2.0
"""Claims and fences, on rows."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from qinling_exec.db import clock
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import attempts, records, states
from qinling_exec.executions.attempts import Repeat
from qinling_exec.executions.queue import _GROUPS_QUERY, Group, _oldest

pytestmark = pytest.mark.every_database

F = Group("f", 0, "mine", utcnow())
TABLE = records.table


def look(queue, database):
    with database.reader() as connection:
        return queue.groups(connection)


def found(queue, database):
    return [(group.function_id, group.version) for group in look(queue, database)]


def test_groups_are_what_waits_the_longest_waiting_first(database, queue, rows):
    rows.add(2, function_id="late", function_version=2)
    rows.add(1, function_id="ended", status=states.SUCCESS)
    rows.add(1, function_id="running", runner_id="r", attempts=1)
    early = utcnow() - timedelta(hours=1)
    rows.add(1, function_id="early", created_at=early, project_id="theirs")
    rows.add(1, function_id="late", function_version=1)
    assert found(queue, database) == [("early", 0), ("late", 2), ("late", 1)]
    assert look(queue, database)[0] == Group("early", 0, "theirs", early)


def test_one_project_with_many_functions_does_not_hide_another(database, queue, rows):
    early = utcnow() - timedelta(hours=1)
    for number in range(250):
        rows.add(1, function_id=f"f{number:03}", created_at=early + timedelta(seconds=number))
    for name in ("g", "h"):
        rows.add(1, function_id=name, project_id="theirs")
    groups = found(queue, database)
    assert len(groups) == 200
    assert groups[:5] == [("f000", 0), ("g", 0), ("f001", 0), ("h", 0), ("f002", 0)]


def test_without_a_queue_there_are_no_groups(database, queue, rows):
    rows.add(3, runner_id="r", attempts=1)
    assert look(queue, database) == []


def test_what_has_to_wait_before_another_attempt_is_left_alone(database, queue, rows):
    with database.reader() as connection:
        now = clock.read(connection)
    rows.add(1, retry_at=now + timedelta(hours=1), attempts=1)
    assert look(queue, database) == []
    assert queue.claim("me", F, ["w"]) == []
    (due,) = rows.add(1, retry_at=now - timedelta(seconds=1), attempts=1)
    assert found(queue, database) == [("f", 0)]
    with database.reader() as connection:
        assert queue.waiting(connection, [F], 10) == {F: 1}
    (claimed,) = queue.claim("me", F, ["w", "w"])
    assert claimed.fence == states.Fence(due, "me", 2)


def test_waiting_is_counted_up_to_a_limit(database, queue, rows):
    rows.add(5)
    rows.add(2, runner_id="r")
    rows.add(4, function_version=1)
    groups = [F, Group("f", 1, "mine", utcnow()), Group("g", 0, "mine", utcnow())]
    with database.reader() as connection:
        for most, counts in ((3, [3, 3, 0]), (10, [5, 4, 0])):
            assert queue.waiting(connection, groups, most) == dict(
                zip(groups, counts, strict=True))
        assert queue.waiting(connection, [], 10) == {}


def test_running_counts_by_runner_project_and_worker(database, queue, rows):
    rows.add(2, runner_id="r", worker="w")
    rows.add(1, runner_id="r", worker="w", project_id="theirs")
    rows.add(1)
    with database.reader() as connection:
        counts = {(item.runner_id, item.project_id, item.worker): item.count
                  for item in queue.running(connection)}
    assert counts == {("r", "mine", "w"): 2, ("r", "theirs", "w"): 1}


def test_claims_take_the_oldest_first_each_for_its_worker(queue, rows):
    ids = rows.add(3)
    claimed = queue.claim("me", F, ["b", "a"])
    assert {item.fence.execution_id for item in claimed} == set(ids[:2])
    assert sorted(item.worker for item in claimed) == ["a", "b"]
    assert all(item.fence.attempt == 1 and item.input == '{"n": 1}' for item in claimed)
    stored = rows.of(ids[0])
    assert (stored.runner_id, stored.attempts) == ("me", 1)
    assert stored.worker in ("a", "b")
    assert stored.started_at is not None


def test_old_ones_are_ended_and_the_others_left(queue, rows):
    (old,) = rows.add(1, created_at=utcnow() - timedelta(hours=2))
    (young,) = rows.add(1)
    too_old = utcnow() - timedelta(hours=1)
    assert queue.end(F, states.error("too old"), 5, too_old) == [old]
    assert (rows.of(old).status, rows.of(young).status) == (states.ERROR, states.RUNNING)
    assert "too old" in rows.result(old)
    assert queue.end(F, states.error("too old"), 5, too_old) == []


def test_what_ends_without_having_begun_has_no_attempt(queue, rows):
    """It counted one before: of a worker that nobody could start."""
    (execution_id,) = rows.add()
    assert queue.end(F, states.error("no worker"), 5) == [execution_id]
    stored = rows.of(execution_id)
    assert (stored.status, stored.attempts, stored.started_at) == (states.ERROR, 0, None)
    assert stored.finished_at is not None


def test_what_somebody_runs_is_not_ended_as_waiting(queue, rows):
    (execution_id,) = rows.add()
    queue.claim("me", F, ["w"])
    assert queue.end(F, states.error("no worker"), 5) == []
    assert rows.of(execution_id).status == states.RUNNING


@pytest.mark.parametrize("repeat", [Repeat.LATER, Repeat.AT_ONCE])
def test_one_that_waits_for_another_attempt_has_not_waited_since_it_came(
        database, queue, rows, repeat):
    """It was ended as too old although it had run nearly all of the time."""
    rows.function(max_attempts=2)
    (execution_id,) = rows.add(1, created_at=utcnow() - timedelta(hours=2))
    (claimed,) = queue.claim("me", F, ["w"])
    with database.writer() as connection:
        attempts.settle(connection, claimed.fence, states.error("lost"), repeat=repeat)
        connection.execute(sa.update(TABLE).where(TABLE.c.retry_at > clock.now())
                           .values(retry_at=clock.now()))  # its pause is over
    too_old = utcnow() - timedelta(hours=1)
    assert queue.end(F, states.error("too old"), 5, too_old) == []
    (second,) = queue.claim("me", F, ["w"])
    queue.put_back(second.fence, second.started_at)  # the worker did not take it
    assert queue.end(F, states.error("too old"), 5, too_old) == []
    assert rows.of(execution_id).attempts == 1
    assert queue.end(F, states.error("too old"), 5, utcnow() + timedelta(hours=1))


def test_each_execution_is_claimed_once_by_many_claimers(queue, rows):
    ids = rows.add(30)
    taken = []

    def claim(name):
        misses = 0
        while misses < 3:  # SKIP LOCKED may show nothing while others hold all that is there
            claimed = queue.claim(name, F, ["w", "w"])
            taken.extend(item.fence.execution_id for item in claimed)
            misses = 0 if claimed else misses + 1

    threads = [threading.Thread(target=claim, args=(f"runner-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken))
    claim("last")
    assert sorted(taken) == sorted(ids)


def test_what_is_put_back_counts_no_attempt(queue, rows):
    (execution_id,) = rows.add()
    (claimed,) = queue.claim("me", F, ["w"])
    assert queue.put_back(claimed.fence, claimed.started_at)
    stored = rows.of(execution_id)
    assert (stored.runner_id, stored.worker, stored.attempts, stored.started_at) == (
        None, None, 0, None)
    assert not queue.put_back(claimed.fence, claimed.started_at)


def test_what_is_put_back_again_and_again_grows_old_all_the_same(queue, rows):
    """Each return began its wait anew: a second attempt could wait for ever."""
    since = utcnow() - timedelta(hours=2)
    (execution_id,) = rows.add(attempts=1, retry_at=since)
    for _ in range(2):
        (claimed,) = queue.claim("me", F, ["w"])
        assert queue.put_back(claimed.fence, claimed.started_at)
    stored = rows.of(execution_id)
    assert (stored.attempts, stored.retry_at) == (1, since)
    assert queue.end(F, states.error("too old"), 5, utcnow() - timedelta(hours=1)) == [
        execution_id]


def test_a_return_that_is_repeated_leaves_the_next_claim_alone(queue, rows):
    (execution_id,) = rows.add()
    (first,) = queue.claim("me", F, ["w"])
    queue.put_back(first.fence, first.started_at)
    (second,) = queue.claim("me", F, ["w"])
    assert second.fence == first.fence
    rows.change(execution_id, cancel_requested_at=utcnow())
    assert not queue.put_back(first.fence, first.started_at)
    stored = rows.of(execution_id)
    assert (stored.status, stored.runner_id, stored.attempts) == (states.RUNNING, "me", 1)


def test_what_is_to_be_cancelled_is_not_put_back(queue, rows):
    (execution_id,) = rows.add()
    (claimed,) = queue.claim("me", F, ["w"])
    rows.change(execution_id, cancel_requested_at=utcnow())
    assert not queue.put_back(claimed.fence, claimed.started_at)
    assert rows.of(execution_id).status == states.CANCELLED


@pytest.mark.parametrize("change", [{"runner_id": "other"}, {"attempts": 2},
                                    {"status": states.SUCCESS}])
def test_a_write_behind_another_fence_is_refused(database, queue, rows, change):
    (execution_id,) = rows.add()
    (claimed,) = queue.claim("me", F, ["w"])
    with database.writer() as connection:
        connection.execute(sa.update(TABLE).values(**change))
        assert records.end(connection, claimed.fence, states.error("late")) is None
    assert rows.of(execution_id).status == change.get("status", states.RUNNING)


def test_an_execution_ends_once(database, queue, rows):
    rows.add()
    (claimed,) = queue.claim("me", F, ["w"])
    outcome = states.Outcome(states.SUCCESS, {"output": 1, "duration": 0.1})
    with database.writer() as connection:
        assert records.end(connection, claimed.fence, outcome) == '{"output": 1, "duration": 0.1}'
        assert records.end(connection, claimed.fence, states.error("again")) is None


def _analyze(database):
    if database.kind != "sqlite":
        with database.engine.connect().execution_options(
                isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql({"postgresql": "ANALYZE executions",
                                        "mysql": "ANALYZE TABLE executions"}[database.kind])


@pytest.mark.parametrize("before", ["none", "empty", "ended", "one waiting"])
def test_a_long_queue_is_never_read_as_a_whole(database, queue, rows, before):
    """Also while the database's statistics are from before it: no sort, and no other index."""
    if before in ("ended", "one waiting"):
        rows.add(300, status=states.SUCCESS)
    if before == "one waiting":
        rows.add()
    if before != "none":
        _analyze(database)
    rows.add(300)
    queries = [_oldest(database.kind, F, None, 3).with_for_update(skip_locked=True),
               _GROUPS_QUERY[database.kind]]
    for query in queries:
        with database.reader(in_order=True) as connection:
            text = str(query.compile(dialect=connection.dialect,
                                     compile_kwargs={"literal_binds": True}))
            explain = "EXPLAIN QUERY PLAN " if database.kind == "sqlite" else "EXPLAIN "
            plan = [" ".join(map(str, row)) for row in
                    connection.exec_driver_sql(explain + text.replace("%", "%%"))]
        touching = [line for line in plan if "executions" in line and "derived" not in line]
        assert touching
        assert all("ix_executions_running" in line for line in touching), plan
        if query is queries[0]:  # the groups themselves are sorted
            assert not any(word in line for line in plan
                           for word in ("TEMP B-TREE", "Sort Key", "filesort")), plan
        if database.kind == "postgresql":
            conditions = [line for line in plan if "Index Cond" in line]
            assert len(conditions) == len(touching)
            assert all("'running'" in line and "runner_id IS NULL" in line
                       for line in conditions), plan
