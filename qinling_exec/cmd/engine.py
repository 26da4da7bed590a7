# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-engine: claims queued executions and looks after workers."""

from __future__ import annotations

import logging
import os
import pathlib
import sys
import threading

import cotyledon
import cotyledon.types
import sdnotify
from oslo_config import cfg
from oslo_log import log

from qinling_exec import conf as configuration
from qinling_exec import exceptions, reports, tracing
from qinling_exec.cmd import refusal
from qinling_exec.cmd.observation import Observation
from qinling_exec.conf import consistency
from qinling_exec.db import migration
from qinling_exec.executions.engine import Engine
from qinling_exec.service import Service

LOG = logging.getLogger(__name__)
#: Between looks for a database that is not there, or not ready, in seconds.
_RETRY_SECONDS = 1.0
#: What an engine gets to end its workers and to sign off, on top of the drain.
_STOP_SECONDS = 30


def main() -> int:
    """Run engines until SIGTERM; return the exit status."""
    with refusal.told("qinling-exec-engine"):
        return _run()


def _run() -> int:
    conf = _load()
    log.setup(conf, "qinling_exec")
    refusal.check(conf)
    consistency.report(conf)
    reports.install(conf)
    notifier = sdnotify.SystemdNotifier()
    # cotyledon would say READY before any engine is; each engine says it itself.
    os.environ.pop("NOTIFY_SOCKET", None)
    manager = cotyledon.ServiceManager(graceful_shutdown_timeout=0)  # each engine has its own
    manager.add(EngineProcess, workers=conf.engine.processes, args=(conf, notifier))
    # A process that is started later is to have what was read last, as the others.
    manager.register_hooks(on_reload=lambda: _read_again(conf))
    manager.run()
    return 0


def _load() -> cfg.ConfigOpts:
    return configuration.load(sys.argv[1:], prog="qinling-exec-engine")


def _read_again(conf: cfg.ConfigOpts) -> None:
    """Take over what may change while the engine runs, unless something is wrong with it."""
    try:
        consistency.check(_load())  # mutate_config_files would take over any text
        conf.mutate_config_files()
        # oslo.config has forgotten the old values before it read the new ones; what another thread
        # looked at meanwhile, it has remembered again.
        conf.register_opts([])
        LOG.info("The configuration was read again.")
    except (exceptions.ServiceError, cfg.Error) as error:
        LOG.error("The configuration could not be read again and stays as it was: %s", error)


class EngineProcess(cotyledon.Service):
    """One engine in a process of its own; cotyledon starts another one when it dies."""

    name = "engine"

    def __init__(self, worker_id: cotyledon.types.WorkerId, conf: cfg.ConfigOpts,
                 notifier: sdnotify.SystemdNotifier) -> None:
        super().__init__(worker_id)
        self._conf = conf
        self._notifier = notifier
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._service = Service(conf)
        self._engine: Engine | None = None
        self._observation = Observation(self._service, worker_id)
        self._limit_stop()

    def run(self) -> None:
        """Work as soon as there is a database, and say so."""
        if not self._await_database():
            return
        with self._lock:
            if self._stopping.is_set():
                return
            tracing.install(self._conf, "engine")
            self._service.start()
            self._observation.start()
            self._engine = engine = self._service.build_engine()
            engine.start()
        while not engine.wait_ready(_RETRY_SECONDS):
            if self._stopping.is_set():
                return
        self._notifier.notify("READY=1")
        LOG.info("The engine is ready.")
        if self._conf.engine.ready_file:
            self._show_ready(pathlib.Path(self._conf.engine.ready_file))

    def _show_ready(self, file: pathlib.Path) -> None:
        """Touch a file as long as this engine may claim executions."""
        while not self._stopping.is_set():
            if self._service.runner.valid:
                try:
                    file.touch()
                except OSError as error:
                    LOG.warning("[engine] ready_file can't be written: %s", error.strerror)
            self._stopping.wait(_RETRY_SECONDS)

    def terminate(self) -> None:
        """Drain: claim nothing more, let runs end, sign off."""
        self._notifier.notify("STOPPING=1")
        self._stopping.set()
        with self._lock:
            if self._engine is not None:
                self._engine.stop()
                self._observation.stop()
                self._service.stop()
                tracing.uninstall()

    def reload(self) -> None:
        """Read the configuration again; options that are not mutable keep their values."""
        _read_again(self._conf)
        self._limit_stop()

    def _limit_stop(self) -> None:
        """Tell cotyledon when to give up a drain that does not end."""
        EngineProcess.graceful_shutdown_timeout = self._conf.engine.drain_seconds + _STOP_SECONDS

    def _await_database(self) -> bool:
        """Wait for a database with the right schema; False when the engine is to end first."""
        told = ""
        away = False
        while not self._stopping.is_set():
            complaint = self._complaint()
            if complaint is None:
                if away:
                    self._service.runner.doubt()
                return True
            away = True
            if complaint != told:
                LOG.warning("The engine waits: %s", complaint)
                told = complaint
            self._stopping.wait(_RETRY_SECONDS)
        return False

    def _complaint(self) -> str | None:
        try:
            current, wanted = migration.version(self._service.database), migration.newest()
        except Exception as error:
            return refusal.of_database(error)
        if current == wanted:
            return None
        return (f"The database's schema is {current or 'not there'}, and {wanted} is needed. Run:"
                " qinling-exec-manage db sync")


if __name__ == "__main__":
    sys.exit(main())
