# SPDX-License-Identifier: Apache-2.0
"""[retention]: how long ended executions are kept."""

from oslo_config import cfg

GROUP = "retention"

OPTS = [
    cfg.FloatOpt(
        "days", default=0, min=0,
        help="Days for which an execution is kept after it has ended, with its input, result and"
             " log; then the engines delete it. 0: it is kept until somebody deletes it, because"
             " records are their owners'. What runs is never deleted.",
    ),
    cfg.IntOpt(
        "batch", default=100, min=1, max=10000,
        help="Executions that are deleted in one transaction.",
    ),
    cfg.IntOpt(
        "share", default=10, min=1, max=100,
        help="Percentage of the time that deleting may take, of all engines together; they rest"
             " after each batch accordingly, so that the service stays fast.",
    ),
    cfg.IntOpt(
        "interval_seconds", default=600, min=1,
        help="Seconds from one purge to the next.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
