# SPDX-License-Identifier: Apache-2.0
"""What an engine claims next and which workers it asks for, fairly between projects."""

import time
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import pytest

from qinling_exec.db.engine import utcnow
from qinling_exec.executions import queue as module
from qinling_exec.executions import targets
from qinling_exec.executions.planning import Planning
from qinling_exec.executions.queue import Queue
from qinling_exec.orchestrator import workers
from qinling_exec.orchestrator.crowding import Crowding
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.workers import Workers
from qinling_exec.quota.limits import RUNNING, UNLIMITED

ROOM = 3


class Runner:
    id = "me"

    def beat(self):
        pass


class Limits:
    def __init__(self):
        self.running = {}

    def of(self, project_id):
        return {RUNNING: self.running.get(project_id, UNLIMITED)}


@pytest.fixture
def options():
    return SimpleNamespace(max_workers_per_function=16, max_workers=64)


@pytest.fixture
def limits():
    return Limits()


@pytest.fixture
def table(database, wakeup):
    return Workers(database, wakeup, ROOM)


@pytest.fixture
def crowding():
    return Crowding(60)


@pytest.fixture
def planning(database, table, options, limits, crowding):
    return Planning(database, table, Slots(), Runner(), options, limits, crowding)


@pytest.fixture
def flood(rows):
    """Project A has many executions in the queue, and B, that came last, a few."""
    for name, project in (("f", "a"), ("g", "b")):
        rows.function(name, project_id=project)
    rows.add(60, function_id="f", project_id="a", created_at=utcnow() - timedelta(hours=1))
    rows.add(4, function_id="g", project_id="b")


def fingerprint(database, function_id):
    with database.reader() as connection:
        return targets.load(connection, function_id, 0).fingerprint


def give(database, rows, function_id, count, runner="me", prefix="w", **values):
    for number in range(count):
        rows.worker(f"{prefix}-{function_id}-{number}", runner, function_id=function_id,
                    **{"fingerprint": fingerprint(database, function_id), **values})


def states_of(database, table):
    with database.reader() as connection:
        return Counter((worker.function_id, worker.state) for worker in table.all(connection))


def claimed(planning, threads=64, running=None):
    chosen = planning.claims(planning.look(), running or {}, threads)
    return {group.function_id: len(taken) for group, taken in chosen.items()}


def test_an_idle_engine_sees_nothing(planning):
    view = planning.look()
    assert (view.groups, view.workers, planning.claims(view, {}, 64)) == ([], [], {})


@pytest.mark.every_database
def test_a_look_and_a_claim_sort_nothing_that_the_index_has_in_order(
        database, rows, flood, planning, monkeypatch):
    """What was set for one transaction did not last from one statement of a look to the next."""
    if database.kind != "postgresql":
        pytest.skip("the others follow the index by themselves")
    seen = []

    def note(name):
        method = getattr(Queue, name)

        def noting(self, connection, *arguments):
            seen.append(connection.exec_driver_sql("SHOW enable_sort").scalar())
            return method(self, connection, *arguments)
        monkeypatch.setattr(Queue, name, noting)

    for name in ("groups", "running", "waiting"):
        note(name)
    planning.look()
    monkeypatch.setattr(module, "_take", lambda connection, *arguments: seen.append(
        connection.exec_driver_sql("SHOW enable_sort").scalar()))
    planning._queue.claim("me", planning.look().groups[0], ["w"])
    assert seen == ["off"] * 7
    with database.reader() as connection:  # and others do
        assert connection.exec_driver_sql("SHOW enable_sort").scalar() == "on"


def test_a_flood_leaves_the_other_its_threads(database, rows, flood, planning):
    give(database, rows, "f", 16)
    give(database, rows, "g", 2)
    assert claimed(planning, threads=16) == {"f": 10, "g": 4}  # and two are the reserve


def test_threads_that_a_flood_has_are_counted(database, rows, flood, planning):
    give(database, rows, "f", 16)
    give(database, rows, "g", 2)
    assert claimed(planning, threads=16, running={"a": 14}) == {"g": 2}


def test_only_where_workers_have_room(database, rows, flood, planning):
    give(database, rows, "f", 1)
    give(database, rows, "g", 1, state=workers.STARTING)
    rows.add(2, function_id="f", project_id="a", runner_id="other", worker="w-f-0")
    assert claimed(planning) == {"f": 1}


def test_no_more_than_a_project_may_run(database, rows, flood, planning, limits):
    give(database, rows, "f", 16)
    limits.running["a"] = 5
    rows.add(2, function_id="f", project_id="a", runner_id="other")
    assert claimed(planning) == {"f": 3}


def test_workers_for_what_waits(database, rows, flood, planning, table):
    planning.want_workers(planning.look())
    assert states_of(database, table) == {("f", workers.STARTING): 5, ("g", workers.STARTING): 2}


def test_no_more_than_one_version_may_have(database, rows, flood, planning, table, options):
    options.max_workers_per_function = 3
    for _ in range(3):
        planning.want_workers(planning.look())
    assert states_of(database, table) == {("f", workers.STARTING): 3, ("g", workers.STARTING): 2}


def test_outdated_workers_go(database, rows, flood, planning, table):
    give(database, rows, "f", 2, fingerprint="of another package")
    planning.want_workers(planning.look())
    assert states_of(database, table)["f", workers.DRAINING] == 2


def test_when_all_places_are_taken_idle_workers_make_way(database, rows, flood, planning, table,
                                                         options):
    options.max_workers = 16
    rows.function("idle", project_id="c")
    give(database, rows, "idle", 16)
    planning.want_workers(planning.look())
    assert states_of(database, table)["idle", workers.DRAINING] == 2  # one for f, one for g


def test_and_then_one_of_who_has_the_most(database, rows, flood, planning, table, options):
    options.max_workers = 16
    give(database, rows, "f", 16)
    rows.add(16, function_id="f", project_id="a", runner_id="me", worker="w-f-0")
    planning.want_workers(planning.look())
    assert states_of(database, table) == {("f", workers.READY): 15, ("f", workers.DRAINING): 1}


def test_nobody_gives_twice_for_one(database, rows, flood, planning, table, options):
    options.max_workers = 16
    give(database, rows, "f", 16)
    for _ in range(3):
        planning.want_workers(planning.look())
    assert states_of(database, table)["f", workers.DRAINING] == 1


@pytest.fixture
def crowded(database, rows, crowding):
    """Of eight workers three are idle and the rest busy; there is no room for one more."""
    for name, project in (("idle", "c"), ("busy", "c"), ("new", "d")):
        rows.function(name, project_id=project)
    give(database, rows, "idle", 3)
    give(database, rows, "busy", 5)
    rows.add(1, function_id="new", project_id="d")
    give(database, rows, "new", 1, state=workers.STARTING)
    for number in range(5):
        rows.add(1, function_id="busy", project_id="c", runner_id="me", worker=f"w-busy-{number}")
    crowding.waits("w-new-0", False)


def test_who_has_nothing_to_do_makes_way_where_there_is_no_room(database, crowded, planning,
                                                               table):
    """They stayed until they were idle for an hour, and others ended as error after a minute."""
    planning.want_workers(planning.look())
    assert states_of(database, table)["idle", workers.DRAINING] == 1
    planning.want_workers(planning.look())
    assert states_of(database, table)["idle", workers.DRAINING] == 1, "one is enough for one"


@pytest.mark.parametrize("waits", [True, False])
def test_who_has_nothing_to_do_makes_way_for_runs_of_images(database, rows, planning, table,
                                                            waits):
    """They kept the room that runs of images waited for, which then ended as error."""
    rows.function("idle", project_id="c")
    rows.function("i", project_id="d", code='{"source": "image", "image": "i"}', entry=None)
    give(database, rows, "idle", 3)
    if waits:  # else it was begun, and its pod waits
        rows.add(1, function_id="i", project_id="d")
    for _ in range(2):
        planning.want_workers(planning.look(whole=True), ["d"])
        assert states_of(database, table)["idle", workers.DRAINING] == 1, "one for one"


def test_nobody_makes_way_for_runs_of_images_that_have_room(database, rows, planning, table):
    rows.function("idle", project_id="c")
    give(database, rows, "idle", 3)
    planning.want_workers(planning.look(whole=True))
    assert states_of(database, table)["idle", workers.DRAINING] == 0


def test_then_one_of_who_has_the_most_where_there_is_no_room(database, rows, crowded, planning,
                                                             table):
    rows.add(9, function_id="idle", project_id="c")  # they are not idle any more
    rows.add(9, function_id="busy", project_id="c")
    planning.want_workers(planning.look())
    found = states_of(database, table)
    assert sum(found[name, workers.DRAINING] for name in ("idle", "busy")) == 1


def test_workers_that_nothing_waits_for_leave_their_turn_to_others(database, rows, crowded,
                                                                   crowding, planning):
    rows.function("done")
    give(database, rows, "done", 1, state=workers.STARTING)
    crowding.waits("w-done-0", False)
    planning.want_workers(planning.look())
    assert (crowding.waits("w-done-0", False), crowding.waits("w-new-0", False)) == (False, True)
    assert (crowding.end("w-done-0"), crowding.end("w-new-0")) == (True, False)


def test_nobody_makes_way_for_what_no_node_takes(database, crowded, crowding, planning, table):
    """All that was idle went, again and again, and what waited ended after a day."""
    crowding.waits("w-new-0", None)
    planning.want_workers(planning.look())
    assert states_of(database, table)["idle", workers.DRAINING] == 0
    crowding.waits("w-new-0", False)  # now it is for want of room
    planning.want_workers(planning.look())
    assert states_of(database, table)["idle", workers.DRAINING] == 1


def test_what_no_node_takes_waits_no_longer_because_others_have_room(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("qinling_exec.orchestrator.crowding.time.monotonic", lambda: clock[0])
    crowding = Crowding(10)
    assert crowding.waits("apart", None) and crowding.waits("full", False)
    clock[0] = 9
    crowding.moves()
    clock[0] = 11
    assert (crowding.waits("apart", None), crowding.waits("full", False)) == (False, True)


def test_in_vain_is_only_who_waits_for_nobody(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    crowding = Crowding(60)
    assert crowding.waits("w", False)
    clock[0] = 59.0
    crowding.moves()
    clock[0] = 118.0
    assert crowding.waits("w", False)
    assert crowding.waits("w", True)
    clock[0] = 177.0
    assert crowding.waits("w", False)
    clock[0] = 179.0
    assert not crowding.waits("w", False)
    assert not crowding.end("w"), "nobody gave it up"


def test_functions_of_an_image_get_runs_and_no_workers(database, rows, table, planning):
    code = '{"source": "image", "image": "i"}'
    for name, project in (("f", "a"), ("g", "b")):
        rows.function(name, project_id=project, code=code, entry=None)
    rows.add(60, function_id="f", project_id="a", created_at=utcnow() - timedelta(hours=1))
    rows.add(2, function_id="g", project_id="b")
    view = planning.look()
    planning.want_workers(view)
    assert (planning.claims(view, {}, 64), states_of(database, table)) == ({}, {})
    given = planning.image_runs(view, {"a": 4}, 8, lambda target: 9)
    assert {group.function_id: count for group, count in given.items()} == {"f": 1, "g": 2}
    assert not planning.image_runs(view, {"a": 4}, 0, lambda target: 9)
    given = planning.image_runs(view, {}, 32, lambda target: 1 - (target.function_id == "g"))
    assert {group.function_id: count for group, count in given.items()} == {"f": 1}
