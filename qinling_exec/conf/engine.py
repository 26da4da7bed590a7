# SPDX-License-Identifier: Apache-2.0
"""[engine]: how executions are claimed, run and watched."""

from oslo_config import cfg

GROUP = "engine"

OPTS = [
    cfg.StrOpt(
        "orchestrator", default="process",
        help="Driver that workers come from (namespace qinling_exec.orchestrator). 'process' runs"
             " functions as local processes: for trusted code. 'kubernetes' runs them in pods.",
    ),
    cfg.IntOpt(
        "processes", default=1, min=1, max=64,
        help="Engine processes that qinling-exec-engine starts and watches over.",
    ),
    cfg.StrOpt(
        "ready_file",
        help="File that an engine touches every second while it works and has its lease; a probe"
             " looks at its age. None is written when it is not given.",
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
        "function_service_expiration", default=3600, min=1, mutable=True,
        help="Seconds after which a worker that has had nothing to do is ended.",
    ),
    cfg.IntOpt(
        "max_workers_per_function", default=16, min=1, mutable=True,
        help="Workers that one version of a function may have; more executions wait.",
    ),
    cfg.IntOpt(
        "max_workers", default=64, min=1, mutable=True,
        help="Workers in all. When all places are taken, idle workers of other functions make way,"
             " then those of the project that is the most above its share. The last eighth of the"
             " places is for projects below their share.",
    ),
    cfg.IntOpt(
        "run_threads", default=64, min=1, max=1000,
        help="Queued executions that one engine runs at the same time. The last eighth is for"
             " projects below their share.",
    ),
    cfg.IntOpt(
        "max_image_runs", default=32, min=1, max=1000,
        help="Executions of functions made of an image that one engine begins to run at the same"
             " time, each in a pod of its own. The last eighth is for projects below their share.",
    ),
    cfg.IntOpt(
        "start_timeout", default=60, min=1,
        help="Seconds that a worker may take to start and to load a function.",
    ),
    cfg.IntOpt(
        "max_age", default=24 * 3600, min=1, mutable=True,
        help="Seconds that an execution may wait in the queue; one that could not be started until"
             " then ends as error.",
    ),
    cfg.IntOpt(
        "drain_seconds", default=330, min=0, mutable=True,
        help="Seconds that an engine which is told to end lets its runs go on. What runs longer is"
             " ended, and begun again elsewhere if its function allows that.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
