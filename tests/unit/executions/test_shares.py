# SPDX-License-Identifier: Apache-2.0
"""Places are given out fairly between projects."""

from datetime import datetime, timedelta

import pytest

from qinling_exec.executions import shares
from qinling_exec.executions.shares import Demand

T0 = datetime(2026, 1, 1)


def demand(key, project, count, age=0):
    return Demand(key, project, T0 - timedelta(seconds=age), count)


def test_all_places_go_to_one_that_is_alone_but_for_a_reserve():
    assert shares.allot([demand("f", "a", 100)], {}, 16, 16) == {"f": 14}


def test_two_get_the_same_whoever_came_first_and_whoever_wants_more():
    given = shares.allot([demand("f", "a", 1000, age=60), demand("g", "b", 7)], {}, 16, 16)
    assert given == {"f": 7, "g": 7}


def test_one_that_has_less_comes_first():
    given = shares.allot([demand("f", "a", 10, age=60), demand("g", "b", 10)],
                         {"a": 6, "b": 2}, 16, 4)
    assert given == {"g": 4}


def test_one_project_with_many_functions_is_still_one():
    flood = [demand(f"f{number}", "a", 10, age=100) for number in range(20)]
    given = shares.allot([*flood, demand("g", "b", 10)], {}, 32, 32)
    assert given["g"] == 10
    assert sum(given.values()) == 28


def test_a_projects_own_are_served_in_the_order_of_their_coming():
    given = shares.allot([demand("new", "a", 5), demand("old", "a", 5, age=9)], {}, 8, 8)
    assert given == {"old": 5, "new": 2}


def test_the_reserve_is_there_for_one_that_comes_later():
    has = {"a": 14}
    assert shares.allot([demand("f", "a", 9)], has, 16, 2) == {}
    assert shares.allot([demand("f", "a", 9), demand("g", "b", 9)], has, 16, 2) == {"g": 2}


def test_what_does_not_fit_leaves_its_place_to_others():
    asked = []

    def fits(key):
        asked.append(key)
        return key != "f"

    given = shares.allot([demand("f", "a", 5, age=9), demand("g", "b", 3)], {}, 8, 8, fits)
    assert given == {"g": 3}
    assert asked.count("f") == 1


@pytest.mark.parametrize("free", [0, -3])
def test_without_places_nobody_gets_one(free):
    assert shares.allot([demand("f", "a", 5)], {}, 8, free) == {}


def test_who_has_the_most_above_its_share_gives():
    assert shares.giver({"a": 14, "b": 2}, 16, ["b"]) == "a"
    assert shares.giver({"a": 16}, 16, ["b"]) == "a"


def test_nobody_gives_what_is_its_share():
    assert shares.giver({"a": 5, "b": 5}, 16, ["c"]) == "a"  # 4 with one that is yet to come
    assert shares.giver({"a": 3, "b": 3}, 16, ["c"]) is None
    assert shares.giver({"a": 1}, 1, ["b"]) is None
    assert shares.giver({}, 16, ["b"]) is None
