# SPDX-License-Identifier: Apache-2.0
"""The service's parts, put together from a configuration."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any

from oslo_config import cfg

from qinling_exec import drivers, policy
from qinling_exec.catalogue.aliases import Aliases
from qinling_exec.catalogue.functions import Functions
from qinling_exec.catalogue.packages import PackageStore
from qinling_exec.catalogue.runtimes import Runtimes
from qinling_exec.catalogue.storage import Storage
from qinling_exec.catalogue.versions import Versions
from qinling_exec.db.engine import Database
from qinling_exec.db.wakeup import CANCEL, Wakeup
from qinling_exec.executions.acceptance import Acceptance
from qinling_exec.executions.cancellation import Cancellation
from qinling_exec.executions.controller import Executions
from qinling_exec.executions.dispatch import Dispatch
from qinling_exec.executions.ending import Ending
from qinling_exec.executions.engine import Engine
from qinling_exec.executions.express import Express
from qinling_exec.executions.flusher import Flusher
from qinling_exec.executions.followers import Followers
from qinling_exec.executions.holdings import Holdings
from qinling_exec.executions.idempotency import Keys
from qinling_exec.executions.images import Images
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.lists import Lists
from qinling_exec.executions.outbox import Outbox
from qinling_exec.executions.places import Places
from qinling_exec.executions.planning import Planning
from qinling_exec.executions.quotas import Quotas
from qinling_exec.executions.reaper import Reaper
from qinling_exec.executions.retention import Periodic
from qinling_exec.executions.room import Room
from qinling_exec.executions.waiters import Waiters
from qinling_exec.executions.watch import Watch
from qinling_exec.orchestrator import base, hung
from qinling_exec.orchestrator.fleet import Fleet
from qinling_exec.orchestrator.losses import Losses
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.wire import Wire
from qinling_exec.orchestrator.workers import Worker, Workers
from qinling_exec.quota import limits as project_limits
from qinling_exec.quota.holding import Holding
from qinling_exec.runtime.package import Limits

LOG = logging.getLogger(__name__)
#: For how long a thread may keep others from Python, in seconds. With the interpreter's own five
#: milliseconds, the engine waits behind each of fifty threads that finish runs, after every word
#: with the database.
_SWITCH_SECONDS = 0.001
_LEASE_LOST = (
    "The process that ran the execution could not reach the database in time and ended the run."
    " The function may have done its work in part."
)


def package_limits(conf: cfg.ConfigOpts) -> dict[str, int]:
    """Return what a package may be, for the checks on both sides."""
    limits = conf.limits
    return {"size": limits.package_size, "unpacked_size": limits.package_unpacked_size,
            "entries": limits.package_entries, "ratio": limits.package_ratio}


def run_limits(conf: cfg.ConfigOpts) -> dict[str, Any]:
    """Return what one run may use, in the worker protocol's names."""
    names = ("processes", "open_files", "file_size", "log_size", "result_size")
    return {**{name: getattr(conf.limits, name) for name in names},
            "package": package_limits(conf)}


def package_store(conf: cfg.ConfigOpts) -> PackageStore:
    """Return the configured store of packages."""
    driver = drivers.load("qinling_exec.package_store", conf.packages.store)
    store: PackageStore = driver(conf.packages.directory)
    return store


def storage(conf: cfg.ConfigOpts, database: Database) -> Storage:
    """Return the configured store of packages, with the rows that guard it."""
    return Storage(database, package_store(conf), Limits(**package_limits(conf)))


def _places(conf: cfg.ConfigOpts) -> Places:
    """Return the places for callers that wait; with their line they leave threads to others."""
    limit = min(conf.api.max_sync_waits, max(1, conf.api.threads - 4))
    return Places(limit, line=max(0, conf.api.threads - limit) // 2)


class Service:
    """Everything that the API needs; :meth:`build_engine` adds what an engine needs.

    :param conf: a loaded configuration.
    :param alone: no other process of the service uses the database.
    """

    def __init__(self, conf: cfg.ConfigOpts, *, alone: bool = False) -> None:
        self.conf = conf
        self.database = Database(conf)
        self.wakeup = Wakeup(self.database, alone=alone)
        self.enforcer = policy.build(conf)
        self._limits = project_limits.load(conf)
        self.store = package_store(conf)
        self._driver = drivers.load("qinling_exec.orchestrator", conf.engine.orchestrator)
        self._waiters = Waiters(self.database, self.wakeup)
        self._slots = Slots()
        self._wire = Wire()
        self._fleet: Fleet | None = None
        self._orchestrator: base.Orchestrator | None = None
        self.followers = Followers(self.database, conf.api.max_followers, conf.api.follow_threads,
                                   conf.api.follow_stall_seconds)
        self._flusher = Flusher(self.database, self.followers.stored)
        self.workers = Workers(self.database, self.wakeup, conf.engine.function_concurrency)
        self._dispatch = Dispatch(self._wire, self._slots, self._flusher, conf.limits.log_size,
                                  lambda name: self.runner.holds(name), self._give_up_worker,
                                  Losses(self.workers, self._driver.shared).why)
        self._watch = Watch(self.database, self._dispatch)
        self.wakeup.listen(CANCEL, self._watch.hear)
        self._outbox = Outbox()
        self._ending = Ending(self.database, self.wakeup, self._waiters, self._outbox)
        self._holdings = Holdings(self.database, self._ending.put_back, self._outbox.has)
        self.runner = Runner(self.database, conf.engine.lease_seconds,
                             partial(self._dispatch.end_all, _LEASE_LOST))
        self.runner.on_renewed = lambda: self._holdings.check(self.runner.id)
        storage = Storage(self.database, self.store, Limits(**package_limits(conf)))
        self.runtimes = Runtimes(self.database, self.wakeup)
        self.functions = Functions(self.database, storage, self.workers, Holding(self._limits))
        self.versions = Versions(self.database, storage, self.workers, conf.limits.versions)
        self.aliases = Aliases(self.database)
        self._acceptance = self._build_acceptance()
        self.executions = Executions(
            self.database, self.wakeup, self._waiters, self._slots, self.runner, self._dispatch,
            self._acceptance, _places(conf),
            Cancellation(self.database, self._waiters, partial(self.wakeup.send, CANCEL)),
            self._ending, self._holdings, sync_seconds=conf.api.sync_seconds,
        )
        self.lists = Lists(self.database, conf.api.list_seconds)

    def _build_acceptance(self) -> Acceptance:
        quotas = Quotas(self.database, self._limits, self.conf.limits.queued)
        return Acceptance(self.database, self._keys(), quotas,
                          runs_images=self._driver.runs_images)

    def _give_up_worker(self, worker: Worker) -> None:
        """End a worker that hangs; what has no rights for that has an engine do it.

        :raises TimeoutError: no engine has done so.
        """
        if self._fleet is not None:
            self._fleet.end_hung(worker)
            return
        hung.have_ended(self.workers, self._wire, worker, self._driver.shared)

    def _keys(self) -> Keys:
        return Keys(self.database, self.conf.api.idempotency_seconds)

    def _retention(self) -> Periodic:
        options = self.conf.retention
        return Periodic(self.database, self._keys(), days=options.days, batch=options.batch,
                        share=options.share / 100, seconds=options.interval_seconds)

    def start(self) -> None:
        """Register as a runner; from now on executions are accepted."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        self.runner.start()
        for part in (self.wakeup, self._outbox, self._waiters, self._flusher, self._watch):
            part.start()

    def stop(self) -> None:
        """Sign off and let go of the database."""
        for part in (self.followers, self._watch, self._waiters, self._flusher, self._outbox,
                     self.runner, self.wakeup):
            part.stop()
        self.database.close()

    def build_engine(self) -> Engine:
        """Return an engine that shares this process with the API."""
        options = self.conf.engine
        lease = options.lease_seconds
        self._orchestrator = driver = self._driver(self.conf)
        self._fleet = fleet = Fleet(
            self.database, driver, self.workers, self._slots, self._wire,
            self.store, lambda: self.runner.id, run_limits(self.conf),
            lambda: options.function_service_expiration, options.start_timeout,
        )
        images = self._build_images(driver.images) if driver.images is not None else None
        reaper = Reaper(self.database, self.runner, self._ending, self._holdings, fleet, images,
                        lease, min(1.0, lease / 5))
        planning = Planning(self.database, self.workers, self._slots, self.runner, options,
                            self._limits, fleet.crowding)
        engine = Engine(self.database, self.wakeup, self.runner, reaper, fleet, self._slots,
                        planning, self._ending, self._holdings, self._dispatch, images,
                        self._retention(), options)
        self.executions.express = Express(engine, self.runner, self._slots, self._acceptance,
                                          self._holdings)
        return engine

    def orchestrated(self) -> bool | None:
        """Tell whether whom the engine of this process has workers from answers.

        None: this process has no engine.
        """
        if self._orchestrator is None:
            return None
        return self._orchestrator.images is None or self._orchestrator.images.ready

    def _build_images(self, driver: base.Images) -> Images:
        options = self.conf.engine
        images = Images(self.database, driver, self.runner, self._ending, self._holdings,
                        self._flusher, self.conf.limits.log_size, options.max_image_runs,
                        Room(options.start_timeout), self.wakeup.wake)
        self._watch.parts.append(images)
        return images
