# SPDX-License-Identifier: Apache-2.0
"""Pages of executions hold what a plain reading of their rows says, also while rows change."""

import functools
import random
import threading
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.context import RequestContext
from qinling_exec.db import listing, models, scope
from qinling_exec.db.listing import Filter, Page
from qinling_exec.executions import lists, records, states

pytestmark = pytest.mark.every_database
TABLE = records.table
BEGIN = datetime(2026, 1, 1)
TIMES = [BEGIN + timedelta(seconds=n, microseconds=n * 7) for n in range(12)]
FUNCTIONS, PROJECTS = ["f", "g", "h"], ["mine", "other", "third"]
SORTS = [(("created_at", "asc"),), (("created_at", "desc"),),
         (("created_at", "asc"), ("id", "asc")), (("created_at", "desc"), ("id", "asc")),
         (("id", "desc"),), (("status", "asc"), ("created_at", "desc")),
         (("finished_at", "desc"),), (("description", "asc"), ("id", "desc"))]


@pytest.fixture
def answers(database):
    return lists.Lists(database, 30)


def make(chance, **values):
    return {"id": models.new_id(), "project_id": chance.choice(PROJECTS),
            "function_id": chance.choice(FUNCTIONS), "function_version": 0,
            "status": chance.choice(states.ALL), "sync": True, "attempts": 1,
            "description": chance.choice([None, "a", "B"]), "created_at": chance.choice(TIMES),
            "finished_at": chance.choice([None, *TIMES]), **values}


def insert(database, rows):
    with database.writer() as connection:
        connection.execute(sa.insert(TABLE), rows)


def some_filters(chance):
    found = []
    if chance.random() < 0.5:
        found.append(Filter("status", *chance.choice([
            ("eq", "success"), ("neq", "success"), ("in", ["failed", "error", "nonsense"]),
            ("nin", ["running"]), ("gte", "failed"), ("has", "e"), ("eq", "nonsense"),
        ])))
    if chance.random() < 0.4:
        found.append(Filter("function_id", *chance.choice([
            ("eq", "f"), ("in", ["g", "h"]), ("neq", "f"), ("eq", "nowhere"), ("has", "g")])))
    for _ in range(chance.choice([0, 0, 1, 2])):
        found.append(Filter("created_at", chance.choice(["gt", "gte", "lt", "lte", "eq", "neq"]),
                            chance.choice(TIMES)))
    if chance.random() < 0.2:
        found.append(Filter("project_id", *chance.choice([
            ("eq", "mine"), ("in", ["other", "third"]), ("neq", "mine")])))
    if chance.random() < 0.2:
        found.append(Filter("description", "eq", "a"))
    return found


MEANS = {"eq": lambda a, b: a == b, "neq": lambda a, b: a != b, "in": lambda a, b: a in b,
         "nin": lambda a, b: a not in b, "gt": lambda a, b: a > b, "gte": lambda a, b: a >= b,
         "lt": lambda a, b: a < b, "lte": lambda a, b: a <= b, "has": lambda a, b: b in a}


def expected(rows, filters, every, page):
    """Return the ids of a whole list, found without a database."""
    kept = [row for row in rows if every or row["project_id"] == "mine"]
    for one in filters:
        kept = [row for row in kept if row[one.column] is not None
                and MEANS[one.operator](row[one.column], one.value)]

    def compare(one, two):
        for name, way in page.keys:
            a, b = ((row[name] is not None, row[name]) for row in (one, two))
            if a != b:
                less = not a[0] or (b[0] and a < b)
                return (-1 if less else 1) * (1 if way == "asc" else -1)
        return 0

    return [row["id"] for row in sorted(kept, key=functools.cmp_to_key(compare))]


def walk(answers, member, filters, every, sort, limit, between=None):
    """Follow the markers to the end; return the ids in the order seen."""
    seen, marker = [], None
    while True:
        query = scope.Query(Page(limit, marker, sort), filters, all_projects=every)
        part = answers.page(member, query)
        assert len(part.items) <= limit
        seen += [item.id for item in part.items]
        if part.marker is None:
            return seen
        assert len(part.items) == limit
        marker = part.marker
        if between:
            between()


@pytest.mark.parametrize("seed", range(4))
def test_any_list_is_what_its_rows_say(database, answers, member, seed):
    chance = random.Random(seed)
    rows = [make(chance) for _ in range(120)]
    insert(database, rows)
    for _ in range(40):
        filters, every = some_filters(chance), chance.random() < 0.5
        sort, limit = chance.choice(SORTS), chance.choice([1, 3, 10, 50, 200])
        limit = max(limit, 3)
        assert walk(answers, member, filters, every, sort, limit) == expected(
            rows, filters, every, Page(sort=sort)), (filters, every, sort, limit)


@pytest.mark.parametrize("sort", SORTS[:4])
def test_an_id_is_a_marker_wherever_it_is(database, answers, member, sort):
    rows = [make(random.Random(n), project_id="mine") for n in range(20)]
    insert(database, rows)
    whole = expected(rows, [], False, Page(sort=sort))
    for place, marker in enumerate(whole):
        part = answers.page(member, scope.Query(Page(50, marker, sort)))
        assert [item.id for item in part.items] == whole[place + 1:]


def test_a_time_filter_beyond_the_marker_counts(database, answers, member):
    rows = [make(random.Random(n), project_id="mine", created_at=TIMES[n]) for n in range(12)]
    insert(database, rows)
    for way, operator in (("asc", "gte"), ("asc", "gt"), ("desc", "lte"), ("desc", "lt"),
                          ("asc", "eq"), ("desc", "eq")):
        sort = (("created_at", way),)
        for bound in TIMES:
            filters = [Filter("created_at", operator, bound)]
            behind = [row for row in rows
                      if (row["created_at"] > TIMES[5] if way == "asc"
                          else row["created_at"] < TIMES[5])]
            part = answers.page(member, scope.Query(Page(50, rows[5]["id"], sort), filters))
            assert [item.id for item in part.items] == expected(
                behind, filters, False, Page(sort=sort)), (way, operator, bound)


def test_inputs_and_results_are_in_the_list(database, answers, member):
    with database.writer() as connection:
        row = make(random.Random(1), project_id="mine", status=states.RUNNING)
        records.insert(connection, {**row, "runner_id": "r"}, "\udc00 given")
        fence = states.Fence(row["id"], "r", 1)
        records.end(connection, fence, states.Outcome(states.SUCCESS, {"output": 1}))
    (item,) = answers.page(member, scope.Query()).items
    assert (item.input, item.result) == ("\udc00 given", '{"output": 1}')


def test_another_project_s_function_shows_nothing(database, answers, member):
    insert(database, [make(random.Random(n), project_id="other", function_id="f")
                      for n in range(5)])
    query = scope.Query(filters=[Filter("function_id", "eq", "f")])
    assert answers.page(member, query).items == []


def test_a_function_run_in_many_projects(database, answers, member):
    """More than are looked up one by one: the list is still right."""
    rows = [make(random.Random(n), project_id=f"p{n}", function_id="f") for n in range(40)]
    insert(database, rows)
    filters = [Filter("function_id", "eq", "f")]
    assert walk(answers, member, filters, True, SORTS[0], 7) == expected(
        rows, filters, True, Page(sort=SORTS[0]))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sort", SORTS[:2])
def test_what_stays_is_seen_once_while_rows_come_go_and_end(database, answers, member, sort,
                                                            seed):
    """Another thread writes all the time, not only between two pages."""
    chance = random.Random(seed)
    stay = [make(chance, project_id="mine") for _ in range(60)]
    go = [make(chance, project_id="mine") for _ in range(60)]
    insert(database, stay + go)
    done = threading.Event()

    def disturb():
        chance = random.Random(seed + 100)
        doomed = [row["id"] for row in go]
        while not done.is_set():
            new = make(chance, project_id="mine")
            insert(database, [new])
            doomed.append(new["id"])
            with database.writer() as connection:
                connection.execute(sa.delete(TABLE).where(
                    TABLE.c.id == doomed.pop(chance.randrange(len(doomed)))))
                connection.execute(sa.update(TABLE).where(
                    TABLE.c.id == chance.choice(stay)["id"]
                ).values(status=chance.choice(states.ALL)))

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for limit in (1, 4, 9):
            seen = walk(answers, member, [], False, sort, limit)
            assert len(seen) == len(set(seen)), "a row came twice"
            assert {row["id"] for row in stay} <= set(seen), "a row was skipped"
    finally:
        done.set()
        thread.join()


def test_a_list_that_takes_too_long_is_refused(database, member, monkeypatch):
    insert(database, [make(random.Random(n), project_id="mine") for n in range(300)])
    answers = lists.Lists(database, 0.2)
    slow = {
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
                  " SELECT count(*) FROM n",
        "postgresql": "SELECT pg_sleep(60)",
    }.get(database.engine.dialect.name, "SELECT count(*) FROM executions a, executions b,"
          " executions c, executions d WHERE a.id < b.id AND c.id < d.id")
    monkeypatch.setattr(lists, "_query", lambda *_: sa.text(slow))
    with pytest.raises(exceptions.InputError, match="created_at"):
        answers.page(member, scope.Query(Page(sort=(("description", "asc"),))))
    with pytest.raises(exceptions.Unavailable):
        answers.page(member, scope.Query())
    monkeypatch.undo()
    assert len(answers.page(member, scope.Query()).items) == 100


def test_only_the_promised_lists_are_planned(database):
    """What the documentation calls fast; the rest is bounded by time."""
    own = Filter("project_id", "eq", "mine")
    status, function = Filter("status", "neq", "success"), Filter("function_id", "in", ["f", "g"])
    since = Filter("created_at", "gte", BEGIN)
    with database.reader() as connection:
        def rest(filters, page=None):
            plan = lists._INDEXES.plan(filters, page or Page(), connection)
            return plan and [one.column for one in plan.rest]

        for filters in ([], [own], [status], [own, status], [function], [own, function],
                        [own, status, function, since], [since]):
            for way in ("asc", "desc"):
                assert rest(filters, Page(sort=(("created_at", way),))) == []
        assert rest([own, Filter("description", "eq", "x")]) == ["description"]
        assert rest([Filter("project_id", "has", "m")]) == ["project_id"]
        assert rest([own], Page(sort=(("finished_at", "asc"),))) is None
        many = Filter("function_id", "in", [str(n) for n in range(13)])
        assert rest([own, many]) == ["function_id"]


def test_states_are_all_that_rows_can_have():
    """Lists are merged of these: a state that is not among them would not be shown."""
    named = {value for name, value in vars(states).items()
             if name.isupper() and isinstance(value, str)}
    assert named == set(states.ALL)


def test_a_plain_list_goes_on_behind_its_marker(database):
    """Tables whose lists are not merged, on every database."""
    rows = [make(random.Random(n)) for n in range(30)]
    insert(database, rows)
    page = Page(5)
    with database.reader() as connection:
        first = listing.select(TABLE, (), (), page, connection)
        again = Page(50, listing.token(first[4]._mapping, page))
        rest = listing.select(TABLE, (), (), again, connection)
    assert [row.id for row in [*first[:5], *rest]] == expected(rows, [], True, page)


def test_others_see_all_projects_only_when_asked(database, answers):
    insert(database, [make(random.Random(n)) for n in range(30)])
    admin = RequestContext(project_id="mine", overwrite=False, is_admin=True)
    assert {item.project_id for item in answers.page(admin, scope.Query()).items} == {"mine"}
