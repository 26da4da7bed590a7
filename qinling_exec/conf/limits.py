# SPDX-License-Identifier: Apache-2.0
"""[limits]: what a request, a package and one run of a function may use."""

from oslo_config import cfg

GROUP = "limits"
_MIB = 1024 * 1024


def _range(name: str, unit: str, default: int, low: int, high: int) -> list[cfg.IntOpt]:
    """Return the default, the least and the most of a function's resource."""
    return [
        cfg.IntOpt(f"default_{name}", default=default, help=f"A function's {name}, in {unit}."),
        cfg.IntOpt(f"min_{name}", default=low, help=f"Least {name} of a function, in {unit}."),
        cfg.IntOpt(f"max_{name}", default=high, help=f"Most {name} of a function, in {unit}."),
    ]


OPTS = [
    *_range("cpu", "millicpu", 100, 100, 300),
    *_range("memory", "bytes for one run", 32 * _MIB, 32 * _MIB, 128 * _MIB),
    *_range("timeout", "seconds", 5, 1, 300),
    cfg.IntOpt("max_attempts", default=10, min=1, max=10,
               help="Most attempts that a function may ask for (its field max_attempts). Functions"
                    " that have more already keep them."),
    cfg.IntOpt("queued_per_project", default=20000, min=1,
               help="Executions of one project that may wait for a worker; another one is refused"
                    " with 429. Each API process counts for itself now and then, so that a few"
                    " more may slip in."),
    cfg.IntOpt("queued", default=100000, min=1,
               help="Executions of all projects that may wait for a worker; another one is refused"
                    " with 503."),
    cfg.IntOpt("versions", default=10, min=1, help="Versions that a function may have."),
    cfg.IntOpt("json_body", default=16 * _MIB, min=1024, help="Bytes of a JSON request body."),
    cfg.IntOpt("json_depth", default=100, min=4, help="Depth of nesting of a JSON body or input."),
    cfg.IntOpt("package_size", default=51 * _MIB, min=1, help="Bytes of a function package."),
    cfg.IntOpt("package_unpacked_size", default=512 * _MIB, min=1,
               help="Bytes of a function package when unpacked."),
    cfg.IntOpt("package_entries", default=10000, min=1, help="Files and folders in a package."),
    cfg.IntOpt("package_ratio", default=200, min=1,
               help="How many times its packed size a file of a package may have unpacked."),
    cfg.IntOpt("log_size", default=_MIB, min=1, help="Bytes that are kept of what a run prints."),
    cfg.IntOpt("result_size", default=16 * _MIB, min=1, help="Bytes of a run's result as JSON."),
    cfg.IntOpt("processes", default=128, min=1, help="Processes and threads of one run."),
    cfg.IntOpt("open_files", default=1024, min=16, help="Open files of one run's process."),
    cfg.IntOpt("file_size", default=500 * _MIB, min=1, help="Bytes of a file that a run writes."),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
