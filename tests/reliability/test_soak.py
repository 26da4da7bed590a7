# SPDX-License-Identifier: Apache-2.0
"""Random work and random faults, minute after minute, against a model of what may come of it.

``QINLING_EXEC_SOAK_SECONDS`` says for how long (per database), ``QINLING_EXEC_SOAK_SEED`` repeats
the choices of an earlier run.
"""

from __future__ import annotations

import functools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.functional.deployment import Process
from tests.reliability import invariants
from tests.reliability.conftest import REAPED, Site
from tests.reliability.history import RUNNING, Creation, History
from tests.reliability.invariants import Promise
from tests.reliability.ledger import Ledger

pytestmark = pytest.mark.every_database
_SECONDS = float(os.environ.get("QINLING_EXEC_SOAK_SECONDS", "10"))
_SEED = int(os.environ.get("QINLING_EXEC_SOAK_SEED") or random.randrange(2**32))
#: What a run does at its end, and what its record may then say when nobody interferes.
_ENDS = {"return": "success", "raise": "failed", "exit": "failed", "raise-first": "failed"}
_ENGINES = 2


@dataclass
class _Model:
    """What is known of each execution, and so what may come of it.

    disturbed: whether anything was killed, so that an execution that may be begun only once may
        have ended as ``error``.
    """

    promises: dict[str, Promise]
    disturbed: bool = False
    ends: dict[str, str] = field(default_factory=dict)

    def allowed(self, creation: Creation) -> set[str]:
        """Return the statuses that an execution may end with."""
        promise = self.promises[creation.body["function_id"]]
        end = self.ends[creation.tag]
        allowed = {_ENDS[end]}
        if end == "raise-first" and promise.max_attempts > 1:
            # The first attempt may also have been lost, and the second one succeeded.
            allowed = {"success"} if promise.retry_on_failure else {"failed", "success"}
        if self.disturbed:
            allowed.add("error")
        if creation.cancel_asked or creation.perhaps_deleted:
            # What fails while somebody wants it cancelled is not attempted again.
            allowed |= {"cancelled", _ENDS[end]}
        return allowed


class _Soak:
    """One random run; every choice is made in one thread, out of the seed."""

    def __init__(self, site: Site, ledger: Ledger, seed: int) -> None:
        self.chance = random.Random(seed)
        self.site = site
        self.ledger = ledger
        self.counts: Counter[str] = Counter()
        functions = {
            site.function(): Promise(),
            site.function(max_attempts="6"): Promise(6),
            site.function(max_attempts="6", retry_on_failure="true"): Promise(6, True),
        }
        self.model = _Model(functions)
        self.site.deployment.start_api()
        self.history: History = site.client(0, 1)
        self._threads: list[threading.Thread] = []
        self._paused: list[Process] = []
        for _ in range(_ENGINES):
            site.deployment.start_engine()

    def run(self, seconds: float) -> None:
        """Do random things for so long, then let everything end."""
        until = time.monotonic() + seconds
        actions: list[tuple[Callable[[], None], float]] = [
            (self._create, 40), (self._cancel, 8), (self._delete, 5), (self._show, 15),
            (self._list, 6), (self._read_log, 5), (self._kill_worker, 0.6),
            (self._kill_engine, 0.5), (self._crash_api, 0.3), (self._pause_engine, 0.3),
            (self._end_engine, 0.3),
        ]
        while time.monotonic() < until:
            (action,) = self.chance.choices([one for one, _ in actions],
                                            [weight for _, weight in actions])
            self.counts[action.__name__.strip("_")] += 1
            action()
            time.sleep(self.chance.uniform(0, 0.1))
        for thread in self._threads:
            thread.join()

    def _create(self) -> None:
        function = self.chance.choice(list(self.model.promises))
        end = self.chance.choice(list(_ENDS))
        lines = self.chance.choice([0, 3, 20])
        given = {"ledger": self.ledger.port, "then": end, "lines": lines,
                 "seconds": self.chance.choice([0, 0, 0.2, 1.5])}
        sync, key = self.chance.random() < 0.3, self.chance.random() < 0.7

        def create() -> None:
            before = self.history.create(function, given, sync=sync, key=key)
            self.model.ends[before.tag] = end

        self._in_background(create)

    def _cancel(self) -> None:
        self._with_one(self.history.cancel)

    def _delete(self) -> None:
        self._with_one(self.history.delete)

    def _show(self) -> None:
        for creation in self._some(5):
            self.history.show(creation)

    def _read_log(self) -> None:
        for creation in self._some(2):
            self.history.log(creation)

    def _list(self) -> None:
        """Everything that is certainly there is listed, once, whatever goes on meanwhile."""
        certain = {one.id for one in self.history.accepted if not one.perhaps_deleted}
        rows = self.history.listed()
        if rows is None:
            return
        ids = [row["id"] for row in rows]
        certain -= {one.id for one in self.history.accepted if one.perhaps_deleted}
        if missing := certain - set(ids):
            self.history.violations.append(f"I1: not listed: {missing}")
        if len(ids) != len(set(ids)):
            self.history.violations.append("I5: listed twice")

    def _kill_worker(self) -> None:
        # Not what a worker forks: a run that somebody kills alone has failed, and that is said.
        found = [key for engine in self._engines() for key, line in engine.workers().items()
                 if ".zygote" not in line]
        if found:
            self.model.disturbed = True
            try:
                os.kill(self.chance.choice(sorted(found))[0], 9)
            except ProcessLookupError:
                self.counts["kill_worker"] -= 1

    def _kill_engine(self) -> None:
        self.model.disturbed = True
        for engine in self._one_engine():
            engine.kill()
            self.site.deployment.start_engine(ready=False)

    def _end_engine(self) -> None:
        """SIGTERM does not disturb: what it has is brought to its end, or handed over."""
        for engine in self._one_engine():
            engine.terminate()
            self.site.deployment.start_engine(ready=False)

    def _pause_engine(self) -> None:
        """Stop an engine for as long as its lease, about."""
        seconds = self.chance.uniform(1, 9)
        for engine in self._one_engine():
            if len(engine._children()) == 1:
                self.model.disturbed = True
                self._paused.append(engine)
                engine.pause()
                # Not one of those that are left out when there are too many.
                self._threads.append(threading.Thread(target=self._resume, args=(engine, seconds)))
                self._threads[-1].start()

    def _resume(self, engine: Process, seconds: float) -> None:
        time.sleep(seconds)
        if engine.process.poll() is None:
            engine.resume()
        self._paused.remove(engine)

    def _crash_api(self) -> None:
        api = self.chance.choice(self.site.deployment.apis)
        if len(api._children()) == 1:
            self.model.disturbed = True
            api.crash()

    def _one_engine(self) -> list[Process]:
        """Return an engine, or nothing while all of them are paused."""
        engines = self._engines()
        return [self.chance.choice(engines)] if engines else []

    def _engines(self) -> list[Process]:
        return [one for one in self.site.deployment.engines
                if one.process.poll() is None and one not in self._paused][-_ENGINES:]

    def _some(self, count: int) -> list[Creation]:
        known = self.history.accepted
        return self.chance.sample(known, min(count, len(known)))

    def _with_one(self, action: Callable[[Creation], object]) -> None:
        for creation in self._some(1):
            self._in_background(functools.partial(action, creation))

    def _in_background(self, work: Callable[[], object]) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < 60:
            self._threads.append(threading.Thread(target=work))
            self._threads[-1].start()


@pytest.mark.timeout(_SECONDS + 600)
@pytest.mark.in_ci("postgresql", "mariadb")
def test_soak(site: Site, ledger: Ledger) -> None:
    print(f"QINLING_EXEC_SOAK_SEED={_SEED} QINLING_EXEC_SOAK_SECONDS={_SECONDS:.0f}")
    soak = _Soak(site, ledger, _SEED)
    soak.run(_SECONDS)
    soak.history.settle(REAPED + 90)
    ledger.wait_until_gone(10)
    rows = {row["id"]: row for row in soak.history.listed() or []}
    print(f"did: {dict(soak.counts)}")
    print(f"ended: {dict(Counter(row['status'] for row in rows.values()))},"
          f" begun again: {sum(max(0, row['attempts'] - 1) for row in rows.values())}")
    for creation in soak.history.accepted:
        row = rows.get(str(creation.id))
        if row and row["status"] != RUNNING and row["status"] not in soak.model.allowed(creation):
            soak.history.violations.append(f"may only be {soak.model.allowed(creation)}: {row}")
    invariants.check([soak.history], ledger, soak.model.promises)
