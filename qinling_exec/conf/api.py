# SPDX-License-Identifier: Apache-2.0
"""[api]: the REST API's own settings."""

from oslo_config import cfg

GROUP = "api"

OPTS = [
    cfg.HostAddressOpt(
        "host", default="127.0.0.1", help="Address that the embedded service listens on."
    ),
    cfg.PortOpt("port", default=7070, help="Port that the embedded service listens on."),
    cfg.IntOpt(
        "threads", default=64, min=1, max=1000,
        help="Requests that one process of the embedded service answers at once; a synchronous"
             " execution holds one of them until it ends.",
    ),
    cfg.IntOpt(
        "sync_seconds", default=600, min=1,
        help="Seconds that a synchronous caller waits for an execution that has no worker yet;"
             " then the record is answered as it is, and the execution goes on.",
    ),
    cfg.BoolOpt(
        "insecure_noauth_everywhere", default=False,
        help="INSECURE: let auth_strategy = noauth also serve callers from other machines. Whoever"
             " reaches the port is then an administrator.",
    ),
    cfg.IntOpt(
        "default_page", default=100, min=1, max=1000,
        help="Rows of a list when the client names no limit.",
    ),
    cfg.IntOpt(
        "max_page", default=1000, min=1, max=10000,
        help="The largest limit that a client may ask for.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
