# SPDX-License-Identifier: Apache-2.0
"""Who is served next: projects take turns, by how much each of them has already.

Pure functions: what they know is what they are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
#: One place of so many is kept for projects that have less than their share.
RESERVE = 8


@dataclass(frozen=True)
class Demand(Generic[K]):
    """What somebody wants places for.

    :param key: what the places are for.
    :param since: when its oldest came; a project's own demands are met in this order.
    :param count: places wanted.
    """

    key: K
    project_id: str
    since: datetime
    count: int


def share(total: int, projects: Iterable[str]) -> float:
    """Return what each of some projects, and one that is yet to come, may have in any case."""
    return total / (len(set(projects)) + 1)


def grants(mine: int, fair: float, free: int, reserve: int) -> bool:
    """Tell whether a project may have one more of the free places.

    :param mine: places that it has.
    :param fair: its share.
    :param reserve: how many of the free ones are for projects below their share.
    """
    return free > reserve or (free > 0 and mine < fair)


def allot(demands: Iterable[Demand[K]], has: Mapping[str, int], total: int, free: int,
          fits: Callable[[K], bool] = lambda key: True) -> Counter[K]:
    """Give out free places one by one, each to the project that has the least.

    The last eighth of all places is for projects below their share, so that one that comes
    finds a place although others could use all of them.

    :param has: places that each project has already.
    :param total: places that there are.
    :param free: places that nobody has.
    :param fits: asked once for each place whether it can be used for a key.
    """
    left = {demand.key: demand.count for demand in demands}
    waiting = sorted(demands, key=lambda demand: demand.since)
    mine = Counter(dict(has))
    fair = share(total, {*(demand.project_id for demand in waiting),
                         *(project for project, count in has.items() if count)})
    given: Counter[K] = Counter()
    while free > 0:
        waiting = [demand for demand in waiting if left[demand.key] > 0 and (
            grants(mine[demand.project_id], fair, free, total // RESERVE))]
        if not waiting:
            break
        chosen = min(waiting, key=lambda demand: (mine[demand.project_id], demand.since))
        if not fits(chosen.key):
            left[chosen.key] = 0
            continue
        left[chosen.key] -= 1
        mine[chosen.project_id] += 1
        given[chosen.key] += 1
        free -= 1
    return given


def giver(has: Mapping[str, int], total: int, projects: Iterable[str]) -> str | None:
    """Return the project that has to give a place to others: the most above its share, if any.

    :param projects: those that want a place.
    """
    fair = share(total, {*projects, *(project for project, count in has.items() if count)})
    most = max(has, key=lambda project: has[project], default=None)
    return most if most is not None and has[most] > max(1.0, fair) else None
