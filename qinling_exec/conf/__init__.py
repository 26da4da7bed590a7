# SPDX-License-Identifier: Apache-2.0
"""Configuration: one module for each group, loaded into a ConfigOpts of our own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from oslo_config import cfg
from oslo_log import log
from oslo_middleware import cors, http_proxy_to_wsgi
from oslo_policy import opts as policy_opts
from oslo_reports import opts as report_opts

from qinling_exec import version
from qinling_exec.conf import (
    api,
    audit,
    database,
    default,
    engine,
    kubernetes,
    limits,
    monitoring,
    packages,
    process,
    quotas,
    retention,
    tracing,
)

_GROUPS = (default, api, database, engine, packages, limits, quotas, process, kubernetes,
           monitoring, audit, retention, tracing)
# Pecan reports an Accept header that it can't satisfy as an error of the service's.
_QUIET = ["sqlalchemy=WARNING", "alembic=WARNING", "stevedore=WARNING", "urllib3=WARNING",
          "pecan=CRITICAL",
          # It logs what it raises as well, with a traceback.
          "oslo_db.sqlalchemy.exc_filters=CRITICAL"]
_LOG_LEVELS = log.get_default_log_levels() + _QUIET


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register every option that the service reads, its libraries' included."""
    set_defaults()
    for group in _GROUPS:
        group.register_opts(conf)
    log.register_options(conf)
    report_opts.set_defaults(conf)
    conf.register_opts(http_proxy_to_wsgi.OPTS, "oslo_middleware")
    conf.register_opts(cors.CORS_OPTS, "cors")
    policy_opts.set_defaults(conf, policy_file="policy.yaml")


def set_defaults() -> None:
    """Change defaults of the libraries' options, for the service and for the sample config."""
    database.set_defaults()
    cors.set_defaults(
        allow_headers=["Content-Type", "Idempotency-Key", "Range", "X-Auth-Token",
                       "X-OpenStack-Request-ID"],
        allow_methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"],
        expose_headers=["Content-Range", "Retry-After", "X-OpenStack-Request-ID"],
    )
    log.set_defaults(default_log_levels=_LOG_LEVELS)


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
    :raises oslo_config.cfg.ConfigFileParseError: a line can't be read.
    """
    conf = cfg.ConfigOpts()
    register_opts(conf)
    for opt in cli_opts:
        conf.register_cli_opt(opt)
    try:
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
    except cfg.ConfigFileParseError as error:
        # The line itself may have a password in it: its number and what is wrong are enough.
        told = cfg.ConfigFileParseError(error.config_file, str(error.msg).partition(": '")[0])
    raise told  # not where the first one is handled, and would be shown as well
