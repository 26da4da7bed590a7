# SPDX-License-Identifier: Apache-2.0
"""How attempts end: written now, later, or as lost; never not at all."""

import json

import pytest

from qinling_exec import exceptions
from qinling_exec.db.engine import utcnow
from qinling_exec.executions import logs, states
from qinling_exec.executions.attempts import Repeat
from qinling_exec.executions.ending import Ending
from qinling_exec.executions.outbox import Outbox
from qinling_exec.executions.queue import Group

pytestmark = pytest.mark.every_database
F = Group("f", 0, "mine", utcnow())
SUCCESS = states.Outcome(states.SUCCESS, {"output": 1, "duration": 0.1})


@pytest.fixture
def claimed(queue, rows):
    rows.add()
    (claimed,) = queue.claim("me", F, ["w"])
    return claimed


@pytest.fixture
def fence(claimed):
    return claimed.fence


class Away:
    """Stands before an Ending's writes."""

    def __init__(self, ending, monkeypatch):
        self.error = None
        self._write = ending._write
        monkeypatch.setattr(ending, "_write", self)

    def __call__(self, *arguments):
        if self.error is not None:
            raise self.error
        return self._write(*arguments)


@pytest.fixture
def away(ending, monkeypatch):
    return Away(ending, monkeypatch)


def test_an_outcome_is_written_with_the_rest_of_the_log(database, ending, rows, fence):
    sink = logs.Sink(fence, 1000)
    sink.write(b"printed\n")
    settled = ending.finish(fence, SUCCESS, sink)
    assert (settled.status, settled.result) == (states.SUCCESS, json.dumps(SUCCESS.result))
    assert rows.of(fence.execution_id).status == states.SUCCESS
    with database.reader() as connection:
        assert logs.read(connection, fence.execution_id, 0, 100) == b"printed\n"


def test_an_outcome_that_comes_too_late_is_dropped(ending, rows, fence, caplog):
    rows.change(fence.execution_id, runner_id="other")
    assert ending.finish(fence, SUCCESS) is None
    assert rows.of(fence.execution_id).status == states.RUNNING
    assert "came too late" in caplog.text


def test_a_write_that_was_carried_out_although_it_seemed_to_fail_is_known(ending, rows, fence):
    now = utcnow()
    ending.finish(fence, SUCCESS, now=now)
    again = ending.finish(fence, SUCCESS, now=now)
    assert again.status == states.SUCCESS
    assert not again.kept


def test_without_a_database_it_is_kept_and_written_later(ending, outbox, away, rows, fence,
                                                         waiters):
    away.error = exceptions.Unavailable("away")
    event = waiters.expect(fence.execution_id)
    assert ending.finish(fence, SUCCESS).kept
    assert rows.of(fence.execution_id).status == states.RUNNING
    away.error = None
    assert event.wait(5)
    assert json.loads(rows.result(fence.execution_id)) == SUCCESS.result
    assert not outbox.has(fence.execution_id)


def test_what_there_is_no_memory_to_keep_ends_as_error(database, wakeup, waiters, monkeypatch,
                                                       rows, fence):
    outbox = Outbox(limit=100)
    ending = Ending(database, wakeup, waiters, outbox)
    away = Away(ending, monkeypatch)
    away.error = exceptions.InsufficientStorage("full")
    ending.finish(fence, states.Outcome(states.SUCCESS, {"output": "x" * 200}))
    outbox.start()
    away.error = None
    outbox.stop()
    assert rows.of(fence.execution_id).status == states.ERROR
    assert "no memory" in rows.result(fence.execution_id)


@pytest.fixture
def small_packets(database, database_server):
    """MariaDB takes a megabyte in one piece; others take what there is."""
    if database.kind != "mysql":
        pytest.skip("only MariaDB and MySQL have such a limit")
    with database_server.administrator() as connection:
        before = connection.exec_driver_sql("SELECT @@GLOBAL.max_allowed_packet").scalar()
        connection.exec_driver_sql(f"SET GLOBAL max_allowed_packet = {2**20}")
        database.engine.dispose()  # connections that are there keep their limit
        yield
        connection.exec_driver_sql(f"SET GLOBAL max_allowed_packet = {before}")
    database.engine.dispose()


# Half of the limit, but each character is escaped.
@pytest.mark.parametrize("output", ["x" * 2**20, "'" * (2**19 + 2**10), '"' * 2**19])
def test_a_result_larger_than_a_packet_is_an_error_with_a_reason(small_packets, ending, outbox,
                                                                 rows, fence, output):
    """It looked like a lost connection, and the outbox tried it, and nothing else, for ever."""
    sink = logs.Sink(fence, 1000)
    sink.write(b"printed\n")
    settled = ending.finish(fence, states.Outcome(states.SUCCESS, {"output": output}), sink)
    assert (settled.status, settled.kept) == (states.ERROR, False)
    assert not outbox.has(fence.execution_id)
    assert rows.of(fence.execution_id).status == states.ERROR
    assert "larger than what the database" in rows.result(fence.execution_id)
    with ending._database.reader() as connection:
        assert logs.read(connection, fence.execution_id, 0, 100) == b"printed\n"


def test_a_result_that_fits_into_a_packet_is_kept(small_packets, ending, rows, fence):
    outcome = states.Outcome(states.SUCCESS, {"output": "'" * (2**19 - 2**10)})
    assert ending.finish(fence, outcome).status == states.SUCCESS
    assert json.loads(rows.result(fence.execution_id)) == outcome.result


def test_a_value_larger_than_a_packet_is_refused_to_the_client(small_packets, database):
    with pytest.raises(exceptions.TooLarge, match="larger than what the database"), \
            database.writer() as connection:
        connection.exec_driver_sql("SELECT %s", ("x" * 2**20,))


def test_what_can_not_be_started_ends_without_an_attempt(ending, rows, waiters):
    (execution_id,) = rows.add()
    event = waiters.expect(execution_id)
    assert ending.give_up(F, "No worker could be started.", 10) == 1
    assert event.is_set()
    assert (rows.of(execution_id).status, rows.of(execution_id).attempts) == (states.ERROR, 0)


def test_an_outcome_that_can_not_be_written_ends_as_error(ending, outbox, rows, fence, caplog):
    assert ending.finish(fence, states.Outcome(states.SUCCESS, {"output": object()})).kept
    outbox.stop()
    assert rows.of(fence.execution_id).status == states.ERROR
    assert "lost track" in rows.result(fence.execution_id)
    assert "can't be written" in caplog.text


def test_so_does_one_that_turns_out_so_when_the_database_is_back(ending, outbox, away, rows,
                                                                 fence, monkeypatch):
    write = away._write

    def refuse(fence, outcome, *more):
        if outcome is SUCCESS:
            raise ValueError("not this")
        return write(fence, outcome, *more)

    away.error = exceptions.Unavailable("away")
    ending.finish(fence, SUCCESS)
    away._write, away.error = refuse, None
    outbox.stop()
    assert rows.of(fence.execution_id).status == states.ERROR


def test_a_run_that_an_error_of_the_service_cut_off_ends(ending, rows, fence, caplog):
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        ending.abandon(fence)
    assert rows.of(fence.execution_id).status == states.ERROR
    assert "a bug" in caplog.text
    assert "a bug" not in rows.result(fence.execution_id)


def test_what_was_not_started_waits_again(ending, rows, claimed):
    ending.put_back(claimed.fence, claimed.started_at)
    stored = rows.of(claimed.fence.execution_id)
    assert (stored.status, stored.runner_id, stored.attempts) == (states.RUNNING, None, 0)


def test_its_return_waits_for_the_database_too(ending, outbox, rows, claimed, monkeypatch):
    put_back = ending._queue.put_back

    def refuse(*arguments):
        raise exceptions.Unavailable("away")

    monkeypatch.setattr(ending._queue, "put_back", refuse)
    ending.put_back(claimed.fence, claimed.started_at)
    assert outbox.has(claimed.fence.execution_id)
    monkeypatch.setattr(ending._queue, "put_back", put_back)
    outbox.stop()
    assert rows.of(claimed.fence.execution_id).runner_id is None


def test_who_waits_is_told_of_what_was_cancelled_instead(ending, rows, claimed, waiters):
    event = waiters.expect(claimed.fence.execution_id)
    rows.change(claimed.fence.execution_id, cancel_requested_at=utcnow())
    ending.put_back(claimed.fence, claimed.started_at)
    assert event.is_set()


def test_a_handover_begins_again_at_once(ending, queue, rows, fence):
    rows.function(max_attempts=2)
    settled = ending.finish(fence, states.error("stopped"), repeat=Repeat.AT_ONCE)
    assert settled.status == states.RUNNING
    (again,) = queue.claim("other", F, ["w"])
    assert (again.fence.execution_id, again.fence.attempt) == (fence.execution_id, 2)
