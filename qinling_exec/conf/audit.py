# SPDX-License-Identifier: Apache-2.0
"""[audit]: who did what, as CADF events."""

from oslo_config import cfg

GROUP = "audit"

OPTS = [
    cfg.StrOpt(
        "map_file",
        help="The file that says what the paths of the API mean in audit events;"
             " etc/qinling_exec/api_audit_map.conf is one. Without it there are no events. They go"
             " to the logger qinling_exec.audit, or with oslo.messaging where"
             " [audit_middleware_notifications] says.",
    ),
    cfg.ListOpt("ignored_methods", default=["GET", "HEAD", "OPTIONS"],
                help="HTTP methods of requests that make no event; by default those that change"
                     " nothing."),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
