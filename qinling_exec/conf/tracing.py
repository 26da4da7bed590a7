# SPDX-License-Identifier: Apache-2.0
"""[tracing]: spans for OpenTelemetry."""

from oslo_config import cfg

GROUP = "tracing"

OPTS = [
    cfg.StrOpt(
        "exporter", default="none",
        choices=[("none", "nothing is traced"),
                 ("otlp", "spans are sent to a collector, OTLP over HTTP"),
                 ("file", "spans are appended to a file, a line of JSON for each")],
        help="Where spans go. Anything but none needs the extra 'tracing' to be installed.",
    ),
    cfg.StrOpt("endpoint", default="http://127.0.0.1:4318/v1/traces",
               help="URL of the collector, for exporter = otlp."),
    cfg.StrOpt("file", default="/var/log/qinling_exec/spans.jsonl",
               help="Path of the file, for exporter = file."),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group's options."""
    conf.register_opts(OPTS, GROUP)
