# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-manage: what an operator does by hand."""

from __future__ import annotations

import argparse
import sys

from oslo_config import cfg
from oslo_log import log

from qinling_exec import conf as configuration
from qinling_exec import exceptions
from qinling_exec.db import migration
from qinling_exec.db.engine import Database


def main() -> int:
    """Carry out one command; return the exit status."""
    command = cfg.SubCommandOpt("command", title="commands", handler=_add_commands)
    try:
        conf = configuration.load(sys.argv[1:], prog="qinling-exec-manage", cli_opts=[command])
        log.setup(conf, "qinling_exec")
        if not conf.database.connection:
            raise exceptions.InputError("No database is configured: name a config file with"
                                        " --config-file that has [database] connection.")
        run = conf.command.run
        run(conf, Database(conf))
    except (exceptions.ServiceError, cfg.ConfigFilesNotFoundError,
            cfg.ConfigFileParseError) as error:
        print(f"qinling-exec-manage: {error}", file=sys.stderr)
        return 1
    return 0


def _add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    commands = subparsers.add_parser("db", help="look after the database schema")
    actions = commands.add_subparsers(dest="action", required=True, metavar="ACTION")
    sync = actions.add_parser("sync", help="create the schema or bring it up to date")
    sync.add_argument("--revision", default="head", help="stop at this revision")
    sync.set_defaults(run=_sync)
    version = actions.add_parser("version", help="show the revision of the schema")
    version.set_defaults(run=_version)


def _sync(conf: cfg.ConfigOpts, database: Database) -> None:
    before = migration.version(database)
    migration.upgrade(database, conf.command.revision)
    after = migration.version(database)
    print(f"The schema is at {after}" + (", nothing to do." if before == after else
                                         f" (it was {before or 'empty'})."))


def _version(_conf: cfg.ConfigOpts, database: Database) -> None:
    print(migration.version(database) or "The database has no schema yet.")
    print(f"newest known: {migration.newest()}")


if __name__ == "__main__":
    sys.exit(main())
