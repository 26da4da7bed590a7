# SPDX-License-Identifier: Apache-2.0
"""What an engine does next: which executions it claims, which workers there have to be."""

from __future__ import annotations

import logging
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qinling_exec import exceptions
from qinling_exec.db.engine import Database
from qinling_exec.executions import shares, targets
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.queue import Group, Queue, Running
from qinling_exec.executions.shares import Demand
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator import fleet, workers
from qinling_exec.orchestrator.crowding import Crowding
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.workers import Worker, Workers
from qinling_exec.quota.limits import RUNNING, UNLIMITED, Limits

LOG = logging.getLogger(__name__)
#: Groups that one turn takes up: those of projects that have the least.
_GROUPS = 64


@dataclass
class View:
    """The queue, what runs and the workers, as one look at the database found them.

    :param waiting: executions of each group, counted as far as they matter.
    :param owners: projects that functions of workers belong to, when more workers are wanted.
    """

    groups: list[Group] = field(default_factory=list)
    waiting: dict[Group, int] = field(default_factory=dict)
    targets: dict[Group, Target] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)

    def needed(self) -> set[tuple[str, int]]:
        """Return the versions that something waits for."""
        return {(group.function_id, group.version) for group in self.groups}

    def fresh(self, group: Group) -> list[Worker]:
        """Return a group's workers that are not outdated, the wanted ones included."""
        target = self.targets[group]
        return [worker for worker in self.workers if _is_of(worker, group)
                and worker.fingerprint == target.fingerprint
                and worker.state not in workers.LEAVING]


class Planning:
    """Decides by what :meth:`look` found, fairly between projects.

    :param options: the group [engine].
    :param crowding: workers that this engine starts and there is no room for.
    """

    def __init__(self, database: Database, table: Workers, slots: Slots, runner: Runner,
                 options: Any, limits: Limits, crowding: Crowding) -> None:
        self._database = database
        self._table = table
        self._slots = slots
        self._runner = runner
        self._options = options
        self._limits = limits
        self._crowding = crowding
        self._queue = Queue(database)

    def look(self, whole: bool = False) -> View:
        """Look at the database; where nothing waits that is one short query.

        :param whole: look at what runs and at the workers in any case.
        """
        view = View()
        with self._database.reader(in_order=True) as connection:
            groups = self._queue.groups(connection)
            if not (groups or whole):
                return view
            self._runner.beat()
            view.running = self._queue.running(connection)
            has: Counter[str] = Counter()
            for item in view.running:
                has[item.project_id] += item.count
            groups.sort(key=lambda group: has[group.project_id])  # and then as they were
            view.groups = groups[:_GROUPS]
            most = self._options.max_workers_per_function * self._table.room
            self._runner.beat()  # a slow database is no hang
            view.waiting = self._queue.waiting(connection, view.groups, most)
            self._runner.beat()
            view.workers = self._table.all(connection)
            wanted = {(group.function_id, group.version): group for group in view.groups}
            found = targets.load_all(connection, wanted)
            view.targets = {wanted[key]: target for key, target in found.items()}
        self._hold_back(view, has)
        return view

    def _hold_back(self, view: View, has: Mapping[str, int]) -> None:
        """Leave what its project may not run yet in the queue."""
        room: dict[str, int] = {}
        for group in view.groups:
            project = group.project_id
            if project not in room:
                self._runner.beat()  # Keystone may be asked
                try:
                    limit = self._limits.of(project)[RUNNING]
                except exceptions.Unavailable:  # what was accepted is not held back for that
                    limit = UNLIMITED
                room[project] = sys.maxsize if limit < 0 else max(0, limit - has[project])
            view.waiting[group] = min(view.waiting[group], room[project])
            room[project] -= view.waiting[group]

    def claims(self, view: View, running: Mapping[str, int],
               threads: int) -> dict[Group, list[Worker]]:
        """Choose what this engine claims now; a slot of each worker that is returned is taken.

        :param running: this engine's runs by project.
        :param threads: runs that it can have at once.
        """
        elsewhere: Counter[str] = Counter()
        for item in view.running:
            if item.worker is not None and item.runner_id != self._runner.id:
                elsewhere[item.worker] += item.count
        ready = {group: [worker for worker in view.fresh(group)
                         if worker.state == workers.READY] for group in view.groups}
        chosen: dict[Group, list[Worker]] = defaultdict(list)

        def fits(group: Group) -> bool:
            worker = self._slots.borrow(ready[group], elsewhere, self._runner.id)
            if worker is not None:
                chosen[group].append(worker)
            return worker is not None

        demands = [Demand(group, group.project_id, group.oldest, view.waiting[group])
                   for group in view.groups if view.targets[group].image is None]
        shares.allot(demands, running, threads, threads - sum(running.values()), fits)
        return chosen

    def image_runs(self, view: View, running: Mapping[str, int], most: int,
                   most_of: Callable[[Target], int]) -> Counter[Group]:
        """Choose how many executions of functions made of an image this engine claims now.

        :param running: this engine's runs of images by project.
        :param most: of them at once.
        :param most_of: returns how many of a version there is hope of room for.
        """
        demands = [Demand(group, group.project_id, group.oldest,
                          min(view.waiting[group], most_of(view.targets[group])))
                   for group in view.groups if view.targets[group].image is not None]
        return shares.allot(demands, running, most, most - sum(running.values()))

    def want_workers(self, view: View, crowded: Sequence[str] = ()) -> None:
        """Ask for the workers that the groups' executions need, within the limits.

        :param crowded: projects that runs of images belong to which find no room.
        """
        self._drain_outdated(view)
        demands = [demand for demand in (self._demand(view, group) for group in view.groups
                                         if view.targets[group].image is None)
                   if demand.count > 0]
        lacking = self._lacking(view)
        if not (demands or lacking or crowded):
            return
        with self._database.reader() as connection:
            view.owners = targets.owners(connection,
                                         {worker.function_id for worker in view.workers})
        has: Counter[str] = Counter()
        starting: Counter[str] = Counter()
        for worker in view.workers:
            project = view.owners.get(worker.function_id, "")
            has[project] += worker.state not in workers.LEAVING
            starting[project] += (worker.state == workers.STARTING
                                  and worker.runner_id == self._runner.id)
        total: int = self._options.max_workers
        places = shares.allot(demands, has, total, total - len(view.workers))
        # Only as many as can be started at once: the next turn has a fresh look.
        now = shares.allot(
            [Demand(item.key, item.project_id, item.since, places[item.key])
             for item in demands],
            starting, fleet.STARTS, fleet.STARTS - starting.total())
        for group, count in now.items():
            self._runner.beat()
            target = view.targets[group]
            made = self._table.want_up_to(
                target.function_id, target.version, target.fingerprint, target.runtime_id or "",
                len(view.fresh(group)) + count, total, self._runner.id)
            if made:
                LOG.info("%s more workers for function %s (version %s).", made,
                         target.function_id, target.version)
        unmet = [item.project_id for item in demands if not places[item.key]]
        if lacking or crowded:  # no more places than these, whatever the configuration says
            owners = [view.owners.get(worker.function_id, "") for worker in lacking]
            unmet += [*owners, *crowded]
            has.subtract(owners)
            total = min(total, len(view.workers) - len(lacking))
        self._make_way(view, unmet, has, total)

    def _lacking(self, view: View) -> list[Worker]:
        """Return the workers of this engine that there is no room for, and something waits for."""
        names = self._crowding.names()
        needed = view.needed()
        lacking = [worker for worker in view.workers if worker.name in names
                   and (worker.function_id, worker.function_version) in needed]
        if lacking:  # room is for these
            self._crowding.give_up(names - {worker.name for worker in lacking})
        waiting = self._crowding.everyone()
        if any(worker.state != workers.STARTING or (
                worker.runner_id == self._runner.id and worker.name not in waiting)
               for worker in view.workers):
            self._crowding.moves()
        return lacking

    def _demand(self, view: View, group: Group) -> Demand[Group]:
        """Return how many workers a group lacks."""
        active = view.waiting[group] + sum(
            item.count for item in view.running
            if (item.function_id, item.version) == (group.function_id, group.version))
        wanted = min(math.ceil(active / self._table.room),
                     self._options.max_workers_per_function)
        return Demand(group, group.project_id, group.oldest, wanted - len(view.fresh(group)))

    def _drain_outdated(self, view: View) -> None:
        names = [worker.name for group in view.groups for worker in view.workers
                 if _is_of(worker, group) and worker.state not in workers.LEAVING
                 and worker.fingerprint != view.targets[group].fingerprint]
        self._drain(names)

    def _make_way(self, view: View, unmet: list[str], has: Counter[str],
                  total: int) -> None:
        """Let workers of others go for demands that found no place.

        Those with nothing to do first; then, for projects below their share, one of the project
        that is the most above its own.
        """
        leaving = sum(worker.state in workers.LEAVING for worker in view.workers)
        if len(view.workers) < total - total // 8 or len(unmet) <= leaving:
            return
        runs: Counter[str] = Counter()
        for item in view.running:
            runs[item.worker or ""] += item.count
        needed = view.needed()
        idle = [worker.name for worker in view.workers
                if worker.state == workers.READY and not runs[worker.name]
                and not self._slots.busy(worker.name)
                and (worker.function_id, worker.function_version) not in needed]
        if idle:
            self._drain(idle[:len(unmet) - leaving])
            return
        giver = shares.giver(has, total, unmet)
        poor = [project for project in unmet if giver and has[project] < has[giver] - 1]
        theirs = [worker for worker in view.workers if worker.state == workers.READY
                  and view.owners.get(worker.function_id) == giver]
        if theirs and len(poor) > leaving:
            self._drain([min(theirs, key=lambda worker: runs[worker.name]).name])

    def _drain(self, names: list[str]) -> None:
        if names:
            with self._database.writer() as connection:
                self._table.set_state(connection, names, workers.DRAINING)


def _is_of(worker: Worker, group: Group) -> bool:
    return (worker.function_id, worker.function_version) == (group.function_id, group.version)
