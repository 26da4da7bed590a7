# SPDX-License-Identifier: Apache-2.0
"""[quotas]: what one project may have."""

from oslo_config import cfg

GROUP = "quotas"


def _limit(name: str, what: str) -> cfg.IntOpt:
    return cfg.IntOpt(name, default=-1, min=-1,
                      help=f"{what} of one project, -1: any number. Read by the driver static.")


OPTS = [
    cfg.StrOpt(
        "driver", default="static",
        choices=[
            ("static", "every project has the limits of this group, and [limits]"
                       " queued_per_project"),
            ("unified", "limits are kept by Keystone (unified limits), and asked for by oslo.limit"
                        " as [oslo_limit] says; needs the extra 'limits' to be installed"),
        ],
        help="Where the limits of projects come from.",
    ),
    _limit("functions", "Functions"),
    _limit("package_bytes", "Bytes of all packages"),
    _limit("running_executions", "Executions that run at the same time"),
    cfg.IntOpt("cache_seconds", default=60, min=1,
               help="Seconds for which the limits that Keystone told are believed; and longer, as"
                    " long as it can't be asked."),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
