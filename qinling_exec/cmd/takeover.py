# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-manage db import: brings over what a Qinling 5.0.0 database has."""

from __future__ import annotations

import argparse
import os
import pathlib

from oslo_config import cfg

from qinling_exec import exceptions, service
from qinling_exec.db.engine import Database
from qinling_exec.takeover import Takeover, open_source

_VARIABLE = "QINLING_EXEC_IMPORT_FROM"


def add_command(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``db``."""
    take = actions.add_parser("import", help="bring over what a Qinling 5.0.0 database has")
    take.add_argument("--from", dest="source", metavar="URL", default=os.environ.get(_VARIABLE),
                      help=f"the former database (default: ${_VARIABLE}, which other users of the"
                           " machine can't see)")
    take.add_argument("--packages", dest="folder", type=pathlib.Path, metavar="DIR",
                      help="Qinling's folder of packages")
    take.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    take.set_defaults(run=_import)


def _import(conf: cfg.ConfigOpts, database: Database) -> None:
    """Bring a Qinling's objects over, and tell what could not come."""
    options = conf.command
    if not options.source:
        raise exceptions.InputError("Name the former database with --from URL.")
    if options.folder is not None and not options.folder.is_dir():
        raise exceptions.InputError(f"{options.folder} is no folder.")
    names = (("cpu", "cpu"), ("memory_size", "memory"), ("timeout", "timeout"))
    report = Takeover(
        open_source(options.source), database, service.storage(conf, database),
        packages=options.folder, dry_run=options.dry_run, tell=print,
        defaults={name: conf.limits[f"default_{limit}"] for name, limit in names},
    ).run()
    for kind, name, reason in report.left:
        print(f"left behind: {kind} {name}: {reason}")
    print(f"{report.brought.total()} {'would come' if options.dry_run else 'came'} over,"
          f" {report.there.total()} were there already, {len(report.left)} stay behind.")
