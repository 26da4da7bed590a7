# SPDX-License-Identifier: Apache-2.0
"""[monitoring]: what operators see of the service."""

from oslo_config import cfg

GROUP = "monitoring"

OPTS = [
    cfg.ListOpt(
        "allowed_networks", default=["127.0.0.0/8", "::1/128"],
        help="Networks whose hosts may read /metrics, and what is wrong at /healthcheck. A request"
             " that a proxy has passed on may not.",
    ),
    cfg.HostAddressOpt("engine_host", default="127.0.0.1",
                       help="Address at which engines answer /metrics and /healthcheck."),
    cfg.PortOpt("engine_port", min=0, default=0,
                help="Port of that, 0: none. The second engine process of a program has the next"
                     " port, and so on."),
    cfg.BoolOpt(
        "access_log", default=True,
        help="Write a line for each request, with the time that it took, to the logger"
             " qinling_exec.api.access. The embedded service does not.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
