# SPDX-License-Identifier: Apache-2.0
"""[packages]: where function packages are kept."""

from oslo_config import cfg

GROUP = "packages"

OPTS = [
    cfg.StrOpt(
        "store", default="file",
        help="Driver that keeps the packages (namespace qinling_exec.package_store).",
    ),
    cfg.StrOpt(
        "directory", default="/var/lib/qinling_exec/packages",
        help="Directory of the file store; every API and engine process must see the same one.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
