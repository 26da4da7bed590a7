# SPDX-License-Identifier: Apache-2.0
"""The limits of projects: from the configuration, or from Keystone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from oslo_config import cfg

from qinling_exec import exceptions

FUNCTIONS = "functions"
PACKAGE_BYTES = "package_bytes"
RUNNING = "running_executions"
QUEUED = "queued_executions"
#: What is limited; unified limits are registered under these names.
RESOURCES = (FUNCTIONS, PACKAGE_BYTES, RUNNING, QUEUED)
UNLIMITED = -1


class Limits(Protocol):
    """Knows what projects may have."""

    def of(self, project_id: str) -> Mapping[str, int]:
        """Return a project's limits by resource, ``UNLIMITED`` among them.

        :raises qinling_exec.exceptions.Unavailable: they can't be asked for.
        """


class Static:
    """The same for every project, from the configuration."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._limits = {name: conf.quotas[name] for name in (FUNCTIONS, PACKAGE_BYTES, RUNNING)}
        self._limits[QUEUED] = conf.limits.queued_per_project

    def of(self, project_id: str) -> Mapping[str, int]:
        """Return a project's limits by resource."""
        return self._limits


def load(conf: cfg.ConfigOpts) -> Limits:
    """Return the configured limits.

    :raises qinling_exec.exceptions.InputError: they can't be had as configured.
    """
    if conf.quotas.driver == "static":
        return Static(conf)
    try:
        # Imported here: it brings OpenStack's whole SDK.
        from qinling_exec.quota.unified import Unified
    except ImportError as error:
        raise exceptions.InputError(
            "[quotas] driver = unified needs oslo.limit: install qinling-exec[limits]."
        ) from error
    return Unified(conf)
