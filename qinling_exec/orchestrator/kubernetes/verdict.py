# SPDX-License-Identifier: Apache-2.0
"""How the run of an image ended, by what the cluster says of its pod. Pure functions."""

from __future__ import annotations

import signal

from qinling_exec.orchestrator.base import ImageEnd
from qinling_exec.orchestrator.kubernetes.seen import Pod, Run
from qinling_exec.runtime.outcome import RESOURCES
from qinling_exec.runtime.runs import TIMEOUT

#: Of what the cluster says, in characters: it ends up in records.
_LONGEST = 300
_PARTLY = "The function may have done its work in part."
#: Ends that the cluster brings about, by its word for it.
_TAKEN = {
    "EvictionByEvictionAPI": "evicted", "PreemptionByScheduler": "evicted",
    "TerminationByKubelet": "evicted",
    "DeletionByTaintManager": "node-lost", "DeletionByPodGC": "node-lost",
    "NodeLost": "node-lost", "Terminated": "node-lost", "NodeShutdown": "node-lost",
}
_WHY = {
    "evicted": "The cluster needed the place that the function's pod had, and ended it.",
    "node-lost": "The node that the function's pod was on is gone, or does not answer.",
}
#: The container did not even begin; its image has no such program, most likely.
_NO_PROGRAM = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})

#: It found no place while others had theirs.
WAITS = ImageEnd("running", "start")


def judge(pod: Pod, run: Run) -> ImageEnd:
    """Return how a run ended whose pod, or its only container, has.

    A program that is told to end may well do so with status 0: that is no success.
    """
    duration = _duration(run)
    if run.exit_code == 0 and not run.cut and pod.reason not in ("DeadlineExceeded", "Evicted"):
        return ImageEnd("success", "none", None, duration)
    if pod.reason == "DeadlineExceeded":
        if run.began is None:
            return late(pod)
        return ImageEnd("failed", "timeout", TIMEOUT, run.timeout)
    if pod.reason == "Evicted":
        return _evicted(pod, duration)
    if pod.reason in _TAKEN:
        return taken(_TAKEN[pod.reason], duration)
    if pod.leaving or run.cut:
        return deleted()
    if run.exit_code is None and run.began is None and pod.reason:  # its node refused it
        return ImageEnd("error", "start", "The function's pod could not start."
                        f" {_cut(f'{pod.reason}: {pod.message}')}")
    if run.exit_code is None or run.cause == "ContainerStatusUnknown":
        return taken("node-lost", duration)
    return _ended(run, run.exit_code, duration)


def late(pod: Pod, event: str = "") -> ImageEnd:
    """Return the end of a run that could not begin in time, or can't begin at all.

    :param event: the last warning about the pod, or what else the cluster says of it.
    """
    why = pod.waiting or event or "The cluster says no reason."
    reason = "image" if "image" in why.partition(":")[0].lower() else "start"
    return ImageEnd("error", reason, f"The function's pod could not start. {_cut(why)}")


def deleted() -> ImageEnd:
    """Return the end of a run whose pod somebody else deleted."""
    return ImageEnd("error", "deleted",
                    f"The function's pod was deleted before the function ended. {_PARTLY}")


def taken(reason: str, duration: float | None = None) -> ImageEnd:
    """Return the end of a run that the cluster did not let go on: evicted, node-lost."""
    return ImageEnd("error", reason, f"{_WHY[reason]} {_PARTLY}", duration)


def _evicted(pod: Pod, duration: float | None) -> ImageEnd:
    """Tell the function that used too much disk from the one that had to make way."""
    if "exceed" in pod.message and "limit" in pod.message:
        return ImageEnd("failed", "disk", RESOURCES, duration)
    return taken("evicted", duration)


def _ended(run: Run, code: int, duration: float | None) -> ImageEnd:
    if run.cause == "OOMKilled":
        return ImageEnd("failed", "memory", RESOURCES, duration)
    if run.cause in _NO_PROGRAM:
        # In front of it is what the node's own programs did.
        words = run.words[max(0, run.words.rfind("exec: ")):] if "exec: " in run.words else ""
        return ImageEnd("failed", "exit",
                        f"The image's program could not be started. {_cut(words)}".strip())
    if 128 < code <= 128 + signal.SIGRTMAX:
        name = _signal(code - 128)
        return ImageEnd("failed", "signal", f"The image's program was ended by signal {name}.",
                        duration)
    return ImageEnd("failed", "exit", f"The image's program ended with status {code}.", duration)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _duration(run: Run) -> float | None:
    if run.began is None or run.ended is None:
        return None
    return max(0.0, run.ended - run.began)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
