# SPDX-License-Identifier: Apache-2.0
"""qinling-exec-manage db purge: deletes old executions and shows how far it is."""

from __future__ import annotations

import argparse
import time

from oslo_config import cfg

from qinling_exec import exceptions
from qinling_exec.db.engine import Database
from qinling_exec.executions.idempotency import Keys
from qinling_exec.executions.retention import Progress, Retention

#: Between two lines of progress.
_SECONDS = 2.0


def add_command(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``db``."""
    purge = actions.add_parser(
        "purge", help="delete executions that ended long ago",
        description="Deletes executions that ended more than DAYS ago, with input, result and"
                    " log, and idempotency keys whose time is over. It can be stopped at any time"
                    " and run again, also beside the service and beside itself.",
    )
    purge.add_argument("--older-than", type=_days, metavar="DAYS",
                       help="age of what is deleted (default: [retention] days)")
    purge.add_argument("--batch", type=_count, metavar="N",
                       help="executions of one transaction (default: [retention] batch)")
    purge.add_argument("--share", type=_percentage, metavar="PERCENT",
                       help="part of the time that deleting takes, 100 without any rest (default:"
                            " [retention] share)")
    purge.add_argument("--dry-run", action="store_true",
                       help="say how many would be deleted, and delete none")
    purge.set_defaults(run=_purge)


def _purge(conf: cfg.ConfigOpts, database: Database) -> None:
    days = conf.command.older_than
    if days is None:
        days = conf.retention.days
        if not days:
            raise exceptions.InputError(
                "Name the age with --older-than DAYS, or set [retention] days."
            )
    batch = conf.command.batch or conf.retention.batch
    share = (conf.command.share or conf.retention.share) / 100
    retention = Retention(database, Keys(database, conf.api.idempotency_seconds))
    if conf.command.dry_run:
        steps, word = retention.count(days, max(batch, 1000)), "would be deleted"
    else:
        steps, word = retention.purge(days, batch, share), "deleted"
    done, shown = Progress(), time.monotonic()
    try:
        for done in steps:
            if time.monotonic() - shown > _SECONDS:
                shown = time.monotonic()
                print(f"{done.executions} executions {word} so far", flush=True)
    except KeyboardInterrupt:
        print("Stopped; run it again to go on.")
    keys = "" if conf.command.dry_run else f", {done.keys} idempotency keys forgotten"
    print(f"{done.executions} executions that ended more than {days:g} days ago {word}{keys}.")


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days < 100_000:
        raise argparse.ArgumentTypeError("a number of days above 0 is required")
    return days


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError("a number from 1 to 10000 is required")
    return number


def _percentage(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100:
        raise argparse.ArgumentTypeError("a number from 1 to 100 is required")
    return number
