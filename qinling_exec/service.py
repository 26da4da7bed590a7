# SPDX-License-Identifier: Apache-2.0
"""The service's parts, put together from a configuration."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg
from stevedore import driver

from qinling_exec import policy
from qinling_exec.catalogue.aliases import Aliases
from qinling_exec.catalogue.functions import Functions
from qinling_exec.catalogue.runtimes import Runtimes
from qinling_exec.catalogue.storage import Storage
from qinling_exec.catalogue.versions import Versions
from qinling_exec.db.engine import Database
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.executions.controller import Executions
from qinling_exec.executions.dispatch import Dispatch
from qinling_exec.executions.engine import Engine
from qinling_exec.executions.leases import Runner
from qinling_exec.executions.logs import Flusher
from qinling_exec.executions.reaper import Reaper
from qinling_exec.executions.waiters import Waiters
from qinling_exec.orchestrator.fleet import Fleet
from qinling_exec.orchestrator.slots import Slots
from qinling_exec.orchestrator.wire import Wire
from qinling_exec.orchestrator.workers import Workers
from qinling_exec.runtime.package import Limits


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


class Service:
    """Everything that the API needs; :meth:`build_engine` adds what an engine needs.

    :param conf: a loaded configuration.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf
        self.database = Database(conf)
        self.wakeup = Wakeup()
        self.enforcer = policy.build(conf)
        self.store = self._load("qinling_exec.package_store", conf.packages.store)(
            conf.packages.directory
        )
        self._driver = self._load("qinling_exec.orchestrator", conf.engine.orchestrator)
        self._waiters = Waiters()
        self._slots = Slots()
        self._wire = Wire()
        self._flusher = Flusher(self.database, self._end_lost)
        self._dispatch = Dispatch(self._wire, self._slots, self._flusher, conf.limits.log_size)
        self.runner = Runner(self.database, conf.engine.lease_seconds, self._dispatch.cancel_all)
        self.workers = Workers(self.database, self.wakeup, conf.engine.function_concurrency)
        storage = Storage(self.database, self.store, Limits(**package_limits(conf)))
        self.runtimes = Runtimes(self.database, self.wakeup)
        self.functions = Functions(self.database, storage, self.workers)
        self.versions = Versions(self.database, storage, self.workers, conf.limits.versions)
        self.aliases = Aliases(self.database)
        self.executions = Executions(
            self.database, self.wakeup, self._waiters, self._slots, self.runner, self._dispatch,
            runs_images=self._driver.runs_images, sync_seconds=conf.api.sync_seconds,
        )

    def start(self) -> None:
        """Register as a runner; from now on executions are accepted."""
        self.runner.start()
        self._flusher.start()

    def stop(self) -> None:
        """Sign off and let go of the database."""
        self._flusher.stop()
        self.runner.stop()
        self.database.close()

    def _end_lost(self, execution_id: str) -> None:
        """End a run whose execution is gone."""
        self._dispatch.cancel(execution_id)

    def build_engine(self) -> Engine:
        """Return an engine that shares this process with the API."""
        options = self.conf.engine
        fleet = Fleet(
            self.database, self._driver(self.conf), self.workers, self._slots, self._wire,
            self.store, self.runner.id, run_limits(self.conf),
            options.function_service_expiration, options.start_timeout,
        )
        return Engine(
            self.database, self.wakeup, self.runner,
            Reaper(self.database, self._waiters, options.lease_seconds), fleet, self.workers,
            self._slots, self.executions, self._dispatch,
            most_workers=options.max_workers_per_function, most_in_all=options.max_workers,
            threads=options.run_threads, sweep_seconds=min(1.0, options.lease_seconds / 5),
        )

    @staticmethod
    def _load(namespace: str, name: str) -> Any:
        return driver.DriverManager(namespace, name).driver
