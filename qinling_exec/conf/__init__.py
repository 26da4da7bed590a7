# SPDX-License-Identifier: Apache-2.0
"""Configuration: one module for each group, loaded into a ConfigOpts of our own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import log
from oslo_policy import opts as policy_opts

from qinling_exec import version
from qinling_exec.conf import api, default, engine, limits, packages, process

_GROUPS = (default, api, engine, packages, limits, process)
_QUIET = ["sqlalchemy=WARNING", "alembic=WARNING", "stevedore=WARNING", "urllib3=WARNING"]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register every option that the service reads, its libraries' included."""
    for group in _GROUPS:
        group.register_opts(conf)
    conf.register_opts(db_options.database_opts, "database")
    log.register_options(conf)
    policy_opts.set_defaults(conf, policy_file="policy.yaml")


def list_opts() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return (group, options) pairs for the sample config generator."""
    return [(group.GROUP, list(group.OPTS)) for group in _GROUPS]


def load(
    args: Sequence[str] = (),
    files: Iterable[str] | None = None,
    prog: str = "qinling-exec",
    cli_opts: Iterable[cfg.Opt] = (),
    usage: str | None = None,
) -> cfg.ConfigOpts:
    """Read the command line and the config files.

    :param args: command line without the program's name.
    :param files: config files read before those named on the command line.
    :raises oslo_config.cfg.ConfigFilesNotFoundError: a named file is not there.
    """
    conf = cfg.ConfigOpts()
    register_opts(conf)
    for opt in cli_opts:
        conf.register_cli_opt(opt)
    log.set_defaults(default_log_levels=log.get_default_log_levels() + _QUIET)
    conf(
        args=list(args),
        project="qinling_exec",
        prog=prog,
        usage=usage,
        version=version.VERSION,
        default_config_files=list(files or []),
        default_config_dirs=[],
    )
    return conf
