# SPDX-License-Identifier: Apache-2.0
"""Gives generic workers their functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qinling_exec.catalogue.packages import PackageStore
from qinling_exec.executions.targets import Target
from qinling_exec.orchestrator.wire import Wire
from qinling_exec.orchestrator.workers import Worker


@dataclass(frozen=True)
class Teacher:
    """Pushes packages to workers.

    :param limits: what a run may use, passed on to workers.
    :param seconds: within which a worker must have loaded its function.
    """

    wire: Wire
    store: PackageStore
    limits: dict[str, Any]
    seconds: float

    def teach(self, worker: Worker, target: Target) -> None:
        """Give a worker its function.

        :raises qinling_exec.exceptions.NotFound: the package is not there.
        :raises qinling_exec.orchestrator.wire.WorkerRefused: it does not want it.
        :raises qinling_exec.orchestrator.wire.WorkerUnreachable: it does not answer.
        """
        assert target.package is not None
        spec = {
            "function_id": target.function_id, "function_version": target.version,
            "entry": target.entry, "sha256": target.package, "memory_size": target.memory_size,
            "cpu": target.cpu, "room": worker.room, "limits": self.limits,
        }
        with self.store.open(target.package) as package:
            size = package.seek(0, 2)
            package.seek(0)
            self.wire.specialize(worker, package, size, spec, self.seconds)
