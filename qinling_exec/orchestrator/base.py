# SPDX-License-Identifier: Apache-2.0
"""What every orchestrator driver offers to the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from oslo_config import cfg


class OrchestratorError(Exception):
    """A worker or a pool could not be had; the text is shown to people."""


class OrchestratorHopeless(OrchestratorError):
    """A worker could not be had, and another try would not change that."""


class OrchestratorElsewhere(OrchestratorError):
    """This host can't have workers, and need not unless an engine runs on it."""


class OrchestratorUnavailable(OrchestratorError):
    """Whom the driver asks does not answer now: nothing is wrong with what was asked for."""


class OrchestratorFull(OrchestratorError):
    """There is no room now for what was asked for, and nothing is left of it.

    :param moves: what has room now will give it back by itself; None: that would be of no use.
    """

    def __init__(self, text: str, moves: bool | None) -> None:
        super().__init__(text)
        self.moves = moves


class OrchestratorSpent(OrchestratorFull, OrchestratorHopeless):
    """The same, for a quota that is used up: no other node can help, and nobody makes way."""


#: Is told, again and again, that there is no room, and whether some will come by itself (None:
#: none that is of use, whoever makes way); returns whether to go on waiting for it.
NoRoom = Callable[[bool | None], bool]


def never(_moves: bool | None) -> bool:
    """Wait for no room."""
    return False


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
    :param name: of the runtime.
    """

    runtime_id: str
    image: str
    trusted: bool = True
    name: str | None = None


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


#: An attempt of an execution: the execution's id and the attempt's number.
Attempt = tuple[str, int]


@dataclass(frozen=True)
class ImageRun:
    """What one attempt of an execution runs when its function is made of a container image.

    :param arguments: of the image's program, in place of the image's own.
    :param cpu: millicpu.
    :param memory: bytes.
    :param timeout: seconds from the start of the program.
    :param log_begin: bytes of log that the execution has from earlier attempts.
    """

    attempt: Attempt
    image: str
    arguments: tuple[str, ...]
    cpu: int
    memory: int
    timeout: int
    log_begin: int = 0


@dataclass(frozen=True)
class ImageEnd:
    """How a run of an image ended.

    :param status: ``failed`` is the function's fault, ``error`` that of whatever runs it;
        ``running``: it has not begun, others take their turns and it takes another one.
    :param reason: one of a few words, for whoever counts.
    :param text: for people; None when there is nothing to say.
    :param duration: seconds that the program ran; None when it never did, or nobody knows.
    """

    status: Literal["success", "failed", "error", "running"]
    reason: str
    text: str | None = None
    duration: float | None = None


class Images(Protocol):
    """Where functions run that are made of a container image; each attempt by itself.

    A run belongs to the deployment: it goes on without an engine, and any engine finds it by its
    attempt. How it ended is known until :meth:`end`.
    """

    @property
    def ready(self) -> bool:
        """True while runs can be begun."""

    def begin(self, run: ImageRun) -> None:
        """Begin a run, or find that it was begun before.

        :raises OrchestratorError: it can't be, with the reason; nothing is left of it.
        :raises OrchestratorFull: the same, but it may be able to later.
        :raises OrchestratorUnavailable: not now; it may have been begun.
        """

    def waiting(self) -> set[Attempt]:
        """Return the runs that were begun and find no room yet."""

    def listen(self, on_room: Callable[[], object]) -> None:
        """Have something called whenever something, a worker too, has given its room back."""

    def log_begin(self, attempt: Attempt) -> int | None:
        """Return what a run that was begun has as its ``log_begin``; None: there is no such run.

        :raises OrchestratorUnavailable: nobody can tell now.
        """

    def follow(self, attempt: Attempt, on_log: Callable[[bytes], bool], skip: int,
               left: threading.Event) -> ImageEnd | None:
        """Hand over what a run prints as it comes, and return how it ended.

        :param on_log: tells whether more is wanted.
        :param skip: bytes at the beginning of what it prints that are known already.
        :param left: ends this, and not the run: None is returned.
        """

    def end(self, attempt: Attempt) -> None:
        """End a run and forget it; returns when it is gone; idempotent.

        :raises OrchestratorError: it may be there still.
        """

    def all(self) -> set[Attempt] | None:
        """Return all runs of the deployment that were not forgotten; None: not known now."""


class Orchestrator(Protocol):
    """A driver. All calls are made from engine threads and may block.

    Drivers are loaded by stevedore from the namespace ``qinling_exec.orchestrator``
    and constructed as ``Driver(conf)``. What is not ``shared`` must be gone
    after :meth:`close`, and must not outlive a killed engine.
    """

    #: True when functions made of a container image can run here.
    runs_images: bool
    #: What runs them; None where they can't.
    images: Images | None
    #: True when pools and workers are the deployment's: they outlive engines, any of which can
    #: look after them.
    shared: bool

    def __init__(self, conf: cfg.ConfigOpts) -> None: ...

    @staticmethod
    def check(conf: cfg.ConfigOpts) -> str:
        """Try whether workers can be had as it is configured; return what to tell operators.

        :raises OrchestratorElsewhere: that can't be said on this host.
        :raises OrchestratorError: they can't, with the reason.
        """

    def ensure_pool(self, pool: PoolRequest) -> None:
        """Create the runtime's pool or bring it up to date; return when it is usable.

        :raises OrchestratorError: with the reason for people.
        """

    def delete_pool(self, runtime_id: str) -> None:
        """Forget the pool and end its generic workers; no error when it is not there."""

    def capacity(self, runtime_id: str) -> Capacity | None:
        """Return the pool's figures, or None when there is no such pool."""

    def take(self, runtime_id: str, name: str, size: Size,
             no_room: NoRoom = never) -> WorkerAddress:
        """Take one generic worker out of the pool (or start one), ready for ``/specialize``.

        :param name: of the worker, by which it is known from then on.
        :param size: that it has at least; :meth:`fit` makes it exact.
        :param no_room: asked, while the others take up all room, whether to wait for some.
        :raises OrchestratorFull: there is no room, and it is not to wait.
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
