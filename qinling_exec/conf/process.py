# SPDX-License-Identifier: Apache-2.0
"""[process]: the orchestrator that runs functions as local processes."""

from oslo_config import cfg

GROUP = "process"

OPTS = [
    cfg.IntOpt(
        "pool_size", default=2, min=0, max=100,
        help="Warm generic workers that are kept ready for each runtime.",
    ),
    cfg.StrOpt(
        "run_directory",
        help="Directory for the workers' sockets and scratch files; a private temporary one when"
             " it is not given. Its path must be short: a Unix socket's path has 107 bytes.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
