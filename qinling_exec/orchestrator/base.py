# SPDX-License-Identifier: Apache-2.0
"""What every orchestrator driver offers to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from oslo_config import cfg


class OrchestratorError(Exception):
    """A worker or a pool could not be had; the text is shown to people."""


class OrchestratorUnavailable(OrchestratorError):
    """Whom the driver asks does not answer now: nothing is wrong with what was asked for."""


@dataclass(frozen=True)
class Size:
    """What a worker's runs may use.

    :param cpu: millicpu of one run.
    :param memory: bytes of one run.
    :param room: runs at the same time.
    """

    cpu: int
    memory: int
    room: int


@dataclass(frozen=True)
class PoolRequest:
    """A runtime for which warm generic workers are kept ready.

    :param runtime_id: UUID of the runtime.
    :param image: what a worker of it runs (the process driver ignores it).
    :param trusted: False asks for stronger isolation than a plain container.
    """

    runtime_id: str
    image: str
    trusted: bool = True


@dataclass(frozen=True)
class Capacity:
    """How many workers of a runtime there are, and how many of them are free."""

    total: int
    available: int


@dataclass(frozen=True)
class WorkerAddress:
    """A generic worker that now belongs to the caller.

    :param name: the driver's name of it, unique in the deployment.
    :param address: ``unix:/path`` or ``host:port``.
    :param secret: bearer secret that it asks for; never logged.
    """

    name: str
    address: str
    secret: str


class Orchestrator(Protocol):
    """A driver. All calls are made from engine threads and may block.

    Drivers are loaded by stevedore from the namespace ``qinling_exec.orchestrator``
    and constructed as ``Driver(conf)``. What is not ``shared`` must be gone
    after :meth:`close`, and must not outlive a killed engine.
    """

    #: True when functions made of a container image can run here.
    runs_images: bool
    #: True when pools and workers are the deployment's: they outlive engines, any of which can
    #: look after them.
    shared: bool

    def __init__(self, conf: cfg.ConfigOpts) -> None: ...

    def ensure_pool(self, pool: PoolRequest) -> None:
        """Create the runtime's pool or bring it up to date; return when it is usable.

        :raises OrchestratorError: with the reason for people.
        """

    def delete_pool(self, runtime_id: str) -> None:
        """Forget the pool and end its generic workers; no error when it is not there."""

    def capacity(self, runtime_id: str) -> Capacity | None:
        """Return the pool's figures, or None when there is no such pool."""

    def take(self, runtime_id: str, name: str, size: Size) -> WorkerAddress:
        """Take one generic worker out of the pool (or start one), ready for ``/specialize``.

        :param name: of the worker, by which it is known from then on.
        :param size: that it has at least; :meth:`fit` makes it exact.
        :raises OrchestratorError: when none can be had, with the reason.
        """

    def fit(self, name: str, size: Size) -> None:
        """Hold a worker that has loaded its function to its size.

        :raises OrchestratorError: it is what it was.
        """

    def release(self, name: str) -> None:
        """End a taken worker with everything in it; idempotent, returns when it is gone."""

    def alive(self, name: str) -> bool:
        """Tell whether a taken worker's process or pod still exists."""

    def loss(self, name: str) -> str:
        """Return why a taken worker is none any more, in words for people that begin small."""

    def workers(self) -> dict[str, str] | None:
        """Return the addresses of all taken workers of the deployment, by name.

        None when that is not known now, or nobody else's business: not ``shared``.
        """

    def pools(self) -> set[str]:
        """Return the runtimes that have generic workers, where pools are ``shared``."""

    def listen(self, on_lost: Callable[[str], None]) -> None:
        """Have something called with the name of each taken worker that is lost."""

    def close(self) -> None:
        """End all workers and pools that this process started, unless they are ``shared``."""
