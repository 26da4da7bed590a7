# SPDX-License-Identifier: Apache-2.0
"""[api]: the REST API's own settings."""

from oslo_config import cfg

GROUP = "api"

OPTS = [
    cfg.HostAddressOpt(
        "host", default="127.0.0.1", help="Address that the embedded service listens on."
    ),
    cfg.PortOpt("port", default=7070, help="Port that the embedded service listens on."),
    cfg.ListOpt(
        "bind", default=["127.0.0.1:7070"],
        help="Addresses that gunicorn listens on with the configuration in etc/: host:port or"
             " unix:/path. The embedded service has host and port instead.",
    ),
    cfg.IntOpt(
        "processes", default=2, min=1, max=256,
        help="Processes of gunicorn with the configuration in etc/. Each answers as many requests"
             " at once as it has threads.",
    ),
    cfg.IntOpt(
        "threads", default=80, min=1, max=1000,
        help="Requests that one process answers at once; a synchronous"
             " execution holds one of them until it ends.",
    ),
    cfg.IntOpt(
        "sync_seconds", default=600, min=1,
        help="Seconds that a synchronous caller waits for an execution that has no worker yet;"
             " then the record is answered as it is, and the execution goes on.",
    ),
    cfg.IntOpt(
        "max_sync_waits", default=64, min=1,
        help="Synchronous executions, and cancels that wait for the end, which one process answers"
             " at once: four less than it has threads at the most, so that everything else gets"
             " through. The last eighth of them, one at least, is for projects that have less than"
             " their share: that number divided by the projects that have some, and one more. A"
             " project that wants more is refused with 429; when none is left at all, with 503.",
    ),
    cfg.IntOpt(
        "max_followers", default=600, min=0,
        help="Clients that one process lets follow logs. All of them share one thread, and each"
             " holds an open file; see also ulimit -n.",
    ),
    cfg.IntOpt(
        "follow_stall_seconds", default=120, min=1,
        help="Seconds for which a client that follows a log may take nothing of what there is for"
             " it; then its connection is closed, and it can go on where it was with a Range.",
    ),
    cfg.IntOpt(
        "follow_threads", default=8, min=0,
        help="Further clients that follow logs where the server keeps its connections to itself:"
             " with uWSGI, or with TLS. Each holds one of the server's threads.",
    ),
    cfg.IntOpt(
        "idempotency_seconds", default=24 * 3600, min=1,
        help="Seconds for which an Idempotency-Key is remembered.",
    ),
    cfg.FloatOpt(
        "list_seconds", default=5.0, min=0.1,
        help="Seconds that the database may take for a page of executions. The lists that the"
             " documentation promises take milliseconds; others, such as all executions sorted by"
             " their description, may need every row and are refused after this time.",
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
