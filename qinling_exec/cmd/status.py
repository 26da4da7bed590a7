# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-status: whether a deployment is ready for this version of the program."""

from __future__ import annotations

import json
import logging
import pathlib
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_upgradecheck import upgradecheck
from oslo_upgradecheck.upgradecheck import Code, Result

from qinling_exec import conf as configuration
from qinling_exec import drivers, exceptions, policy
from qinling_exec.cmd import refusal
from qinling_exec.conf import consistency
from qinling_exec.db import clock, migration, models
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.orchestrator.base import OrchestratorElsewhere
from qinling_exec.service import package_store

_executions = models.Execution.__table__
_runners = models.Runner.__table__
_packages = models.Package.__table__
#: Seconds by which the clocks of the database and of this host may differ.
_SKEW_SECONDS = 1.0
#: Packages whose files are looked for.
_MOST_PACKAGES = 10_000


class Checks(upgradecheck.UpgradeCommands):
    """The checks; each is complete in itself."""

    def __init__(self) -> None:
        self.conf = cfg.ConfigOpts()
        self._database: Database | None = None

    @property
    def database(self) -> Database:
        """The configured database."""
        refusal.require_database(self.conf, "a config file with --config-file")
        if self._database is None:
            self._database = Database(self.conf)
        return self._database

    def _schema(self) -> Result:
        version, newest = migration.version(self.database), migration.newest()
        migration.refuse_newer(version)
        if version == newest:
            return Result(Code.SUCCESS, f"The schema is at {version}.")
        return Result(Code.FAILURE, f"The schema is at {version or 'nothing'}, this program needs"
                                    f" {newest}. Run: qinling-exec-manage db sync")

    def _orphans(self) -> Result:
        lease = timedelta(seconds=self.conf.engine.lease_seconds)
        with self.database.reader() as connection:
            since = clock.read(connection) - lease
            alive = sa.exists().where(_runners.c.id == _executions.c.runner_id,
                                      _runners.c.heartbeat_at >= since)
            number = connection.execute(sa.select(sa.func.count()).where(
                _executions.c.status == "running", _executions.c.runner_id.is_not(None), ~alive,
            )).scalar_one()
        if number:
            return Result(Code.WARNING, f"{number} executions belong to processes that are dead."
                                        " An engine ends or retries them: start one.")
        return Result(Code.SUCCESS, "Every running execution has a live runner.")

    def _files(self) -> Result:
        store = package_store(self.conf)
        with self.database.reader() as connection:
            known = connection.execute(
                sa.select(_packages.c.sha256).limit(_MOST_PACKAGES)).scalars().all()
        missing = 0
        for sha256 in known:
            try:
                store.open(sha256).close()
            except (OSError, exceptions.NotFound):
                missing += 1
        if missing:
            return Result(Code.FAILURE, f"{missing} of {len(known)} packages are not in the store"
                                        f" {self.conf.packages.directory}: functions with them"
                                        " can't run. Bring them back from a backup.")
        return Result(Code.SUCCESS, f"The {len(known)} packages are there.")

    def _policy(self) -> Result:
        policy.build(self.conf)
        path = self.conf.find_file(self.conf.oslo_policy.policy_file)
        if path and _is_json(path):
            return Result(Code.WARNING, f"{path} is JSON. Convert it with"
                                        " oslopolicy-convert-json-to-yaml.")
        return Result(Code.SUCCESS, f"{path or 'The defaults'} can be used.")

    def _options(self) -> Result:
        consistency.check(self.conf)
        unknown = consistency.unknown(self.conf)
        if unknown:
            return Result(Code.WARNING, f"Nothing reads these options: {', '.join(unknown)}.")
        return Result(Code.SUCCESS, "Every option is known.")

    def _clocks(self) -> Result:
        with self.database.reader() as connection:
            before = utcnow()
            there = clock.read(connection)
            after = utcnow()
        skew = max(0.0, (before - there).total_seconds(), (there - after).total_seconds())
        if skew > _SKEW_SECONDS:
            return Result(Code.WARNING, f"The clocks of the database and of this host differ by"
                                        f" {skew:.1f} seconds. Times of executions will be odd:"
                                        " let NTP set them.")
        return Result(Code.SUCCESS, "The clocks agree.")

    def _orchestrator(self) -> Result:
        driver = drivers.load("qinling_exec.orchestrator", self.conf.engine.orchestrator)
        try:
            return Result(Code.SUCCESS, driver.check(self.conf))
        except OrchestratorElsewhere as error:
            return Result(Code.WARNING, f"This was not checked here. {error}")


def _is_json(path: str) -> bool:
    try:
        json.loads(pathlib.Path(path).read_bytes())
    except ValueError:
        return False
    return True


def _tried(check: Callable[[Checks], Result]) -> Callable[[Checks], Result]:
    """Return a check that fails where it would raise."""

    def run(checks: Checks) -> Result:
        try:
            return check(checks)
        except (sa.exc.DBAPIError, db_exc.DBError) as error:
            return Result(Code.FAILURE, refusal.of_database(error))
        except Exception as error:
            return Result(Code.FAILURE, str(error).partition("\n")[0])

    return run


Checks._upgrade_checks = tuple((name, _tried(check)) for name, check in (
    ("Database schema", Checks._schema), ("Orphaned executions", Checks._orphans),
    ("Package files", Checks._files), ("Policy file", Checks._policy),
    ("Options", Checks._options), ("Clocks", Checks._clocks),
    ("Orchestrator", Checks._orchestrator),
))


def main() -> int:
    """Run the checks; return 0, 1 with warnings, 2 with failures, 255 when they can't be run."""
    checks = Checks()
    try:
        checks.conf = configuration.load(sys.argv[1:], prog="qinling-exec-status",
                                         cli_opts=[_command(checks)])
    except cfg.Error as error:
        print(f"qinling-exec-status: {error}", file=sys.stderr)
        return 255
    logging.getLogger().addHandler(logging.NullHandler())  # the table tells what is wrong
    upgradecheck.CONF = checks.conf
    return int(upgradecheck.run(checks.conf))


def _command(checks: Checks) -> Any:
    """Return the option that ``upgrade check`` is, as oslo.upgradecheck makes it."""
    made = cfg.ConfigOpts()
    upgradecheck.register_cli_options(made, checks)
    option: Any = made._opts["command"]["opt"]
    return option


if __name__ == "__main__":
    sys.exit(main())
