# SPDX-License-Identifier: Apache-2.0
"""One run of an image, from the first look at its pod to the verdict."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from qinling_exec.metrics import POD_SECONDS
from qinling_exec.orchestrator.base import ImageEnd, OrchestratorError
from qinling_exec.orchestrator.kubernetes import events, room, verdict
from qinling_exec.orchestrator.kubernetes.client import STRATEGIC_PATCH, Client
from qinling_exec.orchestrator.kubernetes.seen import Pod, Run
from qinling_exec.orchestrator.kubernetes.tail import Tail
from qinling_exec.orchestrator.kubernetes.watch import Watch

LOG = logging.getLogger(__name__)
#: Between looks that nothing gave reason for, in seconds.
_LOOK_SECONDS = 0.5
#: That a node may be late with the end of a pod which has to end, in seconds.
_LATE_SECONDS = 30.0
#: That a program may go on whose pod was deleted by force: its node hears of that last.
_GONE_SECONDS = 5.0
#: The node tries these again by itself.
_PULLING = ("ErrImagePull", "ImagePullBackOff")


class Following:
    """Looks at a pod until it has ended, and reads its log meanwhile.

    :param start_seconds: within which its program must have started.
    :param on_log: tells whether more is wanted.
    :param skip: bytes of the log that are known already.
    """

    def __init__(self, client: Client, watch: Watch, name: str, start_seconds: int,
                 on_log: Callable[[bytes], bool], skip: int) -> None:
        self._client = client
        self._watch = watch
        self._name = name
        self._start_seconds = start_seconds
        self._on_log = on_log
        self._skip = skip
        self._seen: Pod | None = None
        self._last: Pod | None = None
        self._looked: float | None = None
        self._passed = 0.0
        self._lasted: dict[str, float] = {}
        self._tail: Tail | None = None

    def until_end(self, left: threading.Event) -> ImageEnd | None:
        """Return how the run ended; None when ``left`` was set before that."""
        try:
            while not left.is_set():
                try:
                    end = self._look()
                except OrchestratorError as error:
                    LOG.info("Pod %s can't be looked at for now: %s", self._name, error)
                    end = None
                if end is not None:
                    return end
                self._watch.wait(
                    lambda: left.is_set() or self._watch.get(self._name) is not self._seen,
                    _LOOK_SECONDS)
            return None
        finally:
            if self._tail is not None:
                self._tail.leave()

    def _look(self) -> ImageEnd | None:
        pod = self._seen = self._watch.get(self._name)
        if not self._watch.current:
            self._looked = None
            return None
        now = time.monotonic()
        self._passed, self._looked = now - (self._looked or now), now
        if pod is None:  # that there is none the cluster itself has to say
            pod = self._watch.refresh(self._name)
        if pod is None:
            late = not self._may_go_on() or self._for("gone") > _GONE_SECONDS
            return verdict.deleted() if late else None
        if pod.run is None:
            return verdict.deleted()
        self._last = pod
        if pod.phase in ("Succeeded", "Failed") or (pod.leaving and
                                                    pod.run.exit_code is not None):
            if pod.run.began is not None:
                POD_SECONDS.labels("image").observe(max(0.0, pod.run.began - pod.run.created))
            self._read_rest(pod.run)
            return verdict.judge(pod, pod.run)
        if pod.leaving:
            return verdict.taken("node-lost") if self._for("end") > _LATE_SECONDS else None
        if pod.run.began is None:
            return self._await_start(pod)
        self._note_start(pod.run)
        most = pod.run.timeout + _LATE_SECONDS
        return verdict.taken("node-lost") if self._for("run") > most else None

    def _may_go_on(self) -> bool:
        """Tell whether a program may be there though its pod is gone.

        A pod that no node had accepted has none, and one that goes in the usual way goes when its
        node has said that nothing of it is left.
        """
        last = self._last
        if last is None or last.run is None:
            return True
        return last.run.accepted is not None and (last.run.forced or not last.leaving)

    def _for(self, what: str) -> float:
        """Return for how long something goes on that this is asked about at each look.

        Nobody is late while nobody can tell: the time when the cluster does not answer is none.
        """
        self._lasted[what] = self._lasted.get(what, 0.0) + self._passed
        return self._lasted[what]

    def _await_start(self, pod: Pod) -> ImageEnd | None:
        if pod.hopeless and not pod.waiting.startswith(_PULLING):
            return verdict.late(pod)
        if (pod.run is not None and pod.run.accepted is None
                and room.comes(self._watch, pod.name, pod.misplaced)):
            # It is not late as long as others have their turns.
            return verdict.WAITS if self._for("turn") > self._start_seconds else None
        if self._for("start") <= self._start_seconds:
            return None
        return verdict.late(pod, events.last(self._client, self._name))

    def _note_start(self, run: Run) -> None:
        if self._tail is None:
            self._tail = self._new_tail(run)
            self._tail.start()
        self._set_deadline(run)

    def _set_deadline(self, run: Run) -> None:
        """Let the time that a pod took to start no longer count as time of its program."""
        if run.accepted is None or run.began is None:
            return
        # These times are whole seconds, rounded down.
        deadline = int(run.began - run.accepted) + run.timeout + 1
        if deadline < run.deadline:
            wanted = {"spec": {"activeDeadlineSeconds": deadline}}
            self._watch.learn(self._client.request(
                "PATCH", self._client.path("pods", self._name), wanted, kind=STRATEGIC_PATCH))

    def _read_rest(self, run: Run) -> None:
        if run.began is None:
            return
        if self._tail is None:
            self._tail = self._new_tail(run)
        self._tail.finish()

    def _new_tail(self, run: Run) -> Tail:
        return Tail(self._client, self._name, self._on_log, self._skip,
                    run.timeout + _LATE_SECONDS)
