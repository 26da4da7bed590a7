# SPDX-License-Identifier: Apache-2.0
"""[kubernetes]: the orchestrator that runs functions in pods."""

from oslo_config import cfg, types

GROUP = "kubernetes"
_MIB = 1024**2

OPTS = [
    cfg.StrOpt(
        "kubeconfig",
        help="File that says where the cluster is and who the engine is there. When it is not"
             " given, the engine runs in a pod of the cluster and is what its service account is.",
    ),
    cfg.StrOpt("context", help="Context in the kubeconfig; its current one when not given."),
    cfg.StrOpt(
        "namespace", default="qinling-exec",
        help="Namespace that pools and workers live in. It belongs to this service alone: pods"
             " with the service's labels that the database does not know are ended.",
    ),
    cfg.StrOpt(
        "image_pull_policy", default="IfNotPresent", choices=["Always", "IfNotPresent", "Never"],
        help="When nodes fetch images of runtimes and functions.",
    ),
    cfg.ListOpt(
        "image_pull_secrets", default=[],
        help="Names of secrets in the namespace with which nodes fetch images.",
    ),
    cfg.IntOpt(
        "pool_replicas", default=2, min=0, max=1000,
        help="Warm generic pods that are kept ready for each runtime. With 0 every worker waits"
             " for a pod of its own.",
    ),
    cfg.Opt(
        "runtime_pool_replicas", type=types.Dict(types.Integer(0, 1000)), default={},
        help="The same for single runtimes, by their name or id: python3:5,nodejs:0. All engines"
             " must have the same; it is in force when they have been started anew.",
    ),
    cfg.IntOpt(
        "server_cpu", default=50, min=1,
        help="Millicpu that a pod has for itself, on top of what its runs may use.",
    ),
    cfg.IntOpt(
        "server_memory", default=96 * _MIB, min=16 * _MIB,
        help="Bytes of memory that a pod has for itself, on top of what its runs may use.",
    ),
    cfg.IntOpt(
        "boost_cpu", default=1000, min=1,
        help="Millicpu that a pod may use until it has loaded its function: an import takes"
             " seconds with the few that a function has.",
    ),
    cfg.IntOpt(
        "request_percent", default=50, min=1, max=99,
        help="Part of its limits of CPU and memory that a pod has for certain; so the scheduler"
             " may put more pods on a node than could all use their limits at once.",
    ),
    cfg.IntOpt(
        "scratch_size", default=256 * _MIB, min=_MIB,
        help="Bytes of disk that a pod may use: packages, and files that functions write.",
    ),
    cfg.StrOpt(
        "runtime_class",
        help="RuntimeClass of pods of trusted runtimes; the cluster's default when not given.",
    ),
    cfg.StrOpt(
        "untrusted_runtime_class",
        help="RuntimeClass of pods of runtimes with trusted = false, such as gVisor's or Kata's."
             " Without it such runtimes are refused.",
    ),
    cfg.IntOpt(
        "image_user", default=65532, min=0,
        help="Id of the user that functions made of an image run as, whatever their image says: no"
             " pod may run as root. 0 leaves it to the image, which has to name another user than"
             " root by number.",
    ),
    cfg.IntOpt(
        "request_timeout", default=10, min=1,
        help="Seconds that the cluster may take for an answer.",
    ),
    cfg.IntOpt(
        "watch_silence", default=90, min=5,
        help="Seconds without any word after which a watch is begun anew; clusters say something"
             " about once a minute.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
