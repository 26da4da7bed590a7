# SPDX-License-Identifier: Apache-2.0
"""[engine]: how executions are claimed, run and watched."""

from oslo_config import cfg

GROUP = "engine"

OPTS = [
    cfg.StrOpt(
        "orchestrator", default="process",
        help="Driver that workers come from (namespace qinling_exec.orchestrator). 'process' runs"
             " functions as local processes: for trusted code.",
    ),
    cfg.IntOpt(
        "lease_seconds", default=15, min=3,
        help="A process that has not renewed its heartbeat for so long is taken for dead; what it"
             " ran is retried or ended as error.",
    ),
    cfg.IntOpt(
        "function_concurrency", default=3, min=1, max=100,
        help="Executions of a function that one worker runs at the same time.",
    ),
    cfg.IntOpt(
        "function_service_expiration", default=3600, min=1,
        help="Seconds after which a worker that has had nothing to do is ended.",
    ),
    cfg.IntOpt(
        "max_workers_per_function", default=16, min=1,
        help="Workers that one version of a function may have; more executions wait.",
    ),
    cfg.IntOpt(
        "max_workers", default=64, min=1,
        help="Workers in all; more executions wait, and idle workers of other functions make way.",
    ),
    cfg.IntOpt(
        "run_threads", default=64, min=1, max=1000,
        help="Queued executions that one engine runs at the same time.",
    ),
    cfg.IntOpt(
        "start_timeout", default=60, min=1,
        help="Seconds that a worker may take to start and to load a function.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
