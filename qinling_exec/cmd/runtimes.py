# SPDX-License-Identifier: Apache-2.0
"""``qinling-exec-manage runtime check``: does an image keep the worker protocol?"""

from __future__ import annotations

import argparse
import pathlib

from oslo_config import cfg

from qinling_exec import exceptions
from qinling_exec.conformance import report
from qinling_exec.conformance.subject import Command, Image, NotStarted, Subject


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the program."""
    commands = subparsers.add_parser("runtime", help="look after runtimes")
    actions = commands.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check", help="start workers of an image and check that they keep the worker protocol")
    what = check.add_mutually_exclusive_group(required=True)
    what.add_argument("image", nargs="?", help="image, started in pods by kubectl")
    what.add_argument("--command", dest="worker_command", metavar="COMMAND",
                      help="command that starts a worker here; {port} is where its port belongs,"
                           " on 127.0.0.1")
    check.add_argument("--namespace", default="default",
                       help="of the pods (default: %(default)s); this machine must reach them")
    check.add_argument("--language", choices=report.LANGUAGES, default="python",
                       help="of the functions that the checks call (default: %(default)s)")
    check.add_argument("--package", metavar="ZIP",
                       help="functions for another language, see the guide")
    check.add_argument("--entry", default="main.main",
                       help="the function in the package (default: %(default)s)")
    check.set_defaults(run=_check, needs_database=False)


def _check(conf: cfg.ConfigOpts, _database: None) -> None:
    given = conf.command
    subject: Subject = (Command(given.worker_command) if given.worker_command
                        else Image(given.image, given.namespace))
    try:
        package = (pathlib.Path(given.package).read_bytes() if given.package
                   else report.package_for(given.language))
        failed = report.run(subject, package, given.entry, lambda line: print(line, flush=True))
    except NotStarted as error:
        raise exceptions.InputError(f"There is nothing to check: {error}.") from error
    except FileNotFoundError as error:
        raise exceptions.InputError(f"{given.package}: {error.strerror}.") from error
    if failed:
        raise exceptions.Conflict(f"{failed} of the checks do not hold.")
