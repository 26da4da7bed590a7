# SPDX-License-Identifier: Apache-2.0
"""[DEFAULT]: who is asked who the caller is."""

from oslo_config import cfg

GROUP = None

OPTS = [
    cfg.StrOpt(
        "auth_strategy",
        default="keystone",
        choices=[
            ("keystone", "tokens are checked by Keystone, see [keystone_authtoken]"),
            ("noauth", "project and roles are believed as the headers X-Project-Id and X-Roles"
                       " give them; for one person's own machine"),
        ],
        help="How callers are identified.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS)
