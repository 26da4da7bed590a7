# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-manage: what an operator does by hand."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys

from oslo_config import cfg
from oslo_log import log

from qinling_exec import conf as configuration
from qinling_exec import exceptions
from qinling_exec.cmd import purge, refusal, runtimes, takeover
from qinling_exec.conf import consistency
from qinling_exec.db import migration
from qinling_exec.db.engine import Database
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.executions import states
from qinling_exec.executions.cancellation import Cancellation, Ended
from qinling_exec.executions.waiters import Waiters


def main() -> int:
    """Carry out one command; return the exit status."""
    with refusal.told("qinling-exec-manage"):
        return _run()


def _run() -> int:
    command = cfg.SubCommandOpt("command", title="commands", handler=_add_commands)
    conf = configuration.load(sys.argv[1:], prog="qinling-exec-manage", cli_opts=[command])
    consistency.check(conf)
    log.setup(conf, "qinling_exec")
    if not conf.debug:  # what was done is printed
        logging.getLogger("qinling_exec").setLevel(logging.WARNING)
    run = conf.command.run
    if not getattr(conf.command, "needs_database", True):
        run(conf, None)
        return 0
    refusal.require_database(conf, "a config file with --config-file")
    with contextlib.closing(Database(conf)) as database:
        run(conf, database)
    return 0


def _add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    commands = subparsers.add_parser("db", help="look after the database")
    actions = commands.add_subparsers(dest="action", required=True, metavar="ACTION")
    sync = actions.add_parser("sync", help="create the schema or bring it up to date")
    sync.add_argument("--revision", default="head", help="stop at this revision")
    sync.set_defaults(run=_sync)
    version = actions.add_parser("version", help="show the revision of the schema")
    version.set_defaults(run=_version)
    purge.add_command(actions)
    takeover.add_command(actions)
    runtimes.add_command(subparsers)
    commands = subparsers.add_parser("execution", help="look after executions")
    actions = commands.add_subparsers(dest="action", required=True, metavar="ACTION")
    cancel = actions.add_parser("cancel", help="cancel executions of any project")
    cancel.add_argument("ids", nargs="+", metavar="ID", help="id of an execution")
    cancel.set_defaults(run=_cancel)


def _sync(conf: cfg.ConfigOpts, database: Database) -> None:
    before = migration.version(database)
    migration.upgrade(database, conf.command.revision)
    after = migration.version(database)
    print(f"The schema is at {after}" + (", nothing to do." if before == after else
                                         f" (it was {before or 'empty'})."))


def _version(_conf: cfg.ConfigOpts, database: Database) -> None:
    print(migration.version(database) or "The database has no schema yet.")
    print(f"newest known: {migration.newest()}")


def _cancel(conf: cfg.ConfigOpts, database: Database) -> None:
    """Cancel executions; whoever runs them looks often enough to notice."""
    cancellation = Cancellation(database, Waiters(database, Wakeup()), lambda _id: None)
    failed = 0
    for execution_id in conf.command.ids:
        try:
            status = cancellation.request(execution_id, [])
            if status == states.RUNNING:
                status = cancellation.wait(execution_id, [])
        except (exceptions.NotFound, Ended) as error:
            status = str(error)
        if status == states.RUNNING:
            status = "not ended yet; it will be, as soon as its runner notices"
        failed += status != states.CANCELLED
        print(f"{execution_id}: {status}")
    if failed:
        raise exceptions.Conflict(f"{failed} of {len(conf.command.ids)} are not cancelled.")


if __name__ == "__main__":
    sys.exit(main())
