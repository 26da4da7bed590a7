# SPDX-License-Identifier: Apache-2.0
"""[database]: time limits on top of oslo.db's options."""

from oslo_config import cfg
from oslo_db import options as db_options

GROUP = "database"

OPTS = [
    cfg.IntOpt(
        "connect_timeout", default=3, min=2, max=60,
        help="Seconds that a connection to the database may take. Requests that need one are"
             " answered 503 after it.",
    ),
    cfg.IntOpt(
        "statement_timeout", default=8, min=1, max=600,
        help="Seconds that one statement may take, the wait for locks included. The database ends"
             " it; when the database is silent the connection is given up a second later."
             " Migrations have no such limit.",
    ),
    cfg.FloatOpt(
        "down_pause", default=1.0, min=0.1, max=60,
        help="While the database is down, requests are answered 503 at once; every so many seconds"
             " one of them is let through to see whether it is back.",
    ),
    cfg.IntOpt(
        "transaction_attempts", default=8, min=1, max=100,
        help="How often a transaction is tried that the database gave up in favour of another"
             " (deadlock, failed certification) or that was lost with its connection, as far as"
             " that can do nothing twice.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options and those of oslo.db."""
    conf.register_opts(db_options.database_opts, GROUP)
    conf.register_opts(OPTS, GROUP)


def set_defaults() -> None:
    """Change defaults of oslo.db's options."""
    # What is over the size is closed after each use: threads that end runs would connect anew for
    # every one of them, which costs more than what they write. The most is the same, 55.
    cfg.set_defaults(db_options.database_opts, pool_timeout=5, max_pool_size=20, max_overflow=35)
