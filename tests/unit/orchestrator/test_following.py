# SPDX-License-Identifier: Apache-2.0
"""How long a run of an image is waited for, with a watch whose clock the test turns."""

import threading

import pytest

from qinling_exec.orchestrator.base import OrchestratorUnavailable
from qinling_exec.orchestrator.kubernetes import following, seen

START = 10


class Watch:
    """A copy of one pod; each wait is one step of time."""

    def __init__(self, pod, steps, step=1.0):
        self.pod, self.left, self.step, self.now, self.looks = pod, steps, step, 100.0, 0
        self.current, self.over, self.asked = True, threading.Event(), 0
        self.others = []

    def all(self):
        return [self.pod, *self.others]

    def get(self, name):
        return self.pod

    def refresh(self, name):
        self.asked += 1
        raise OrchestratorUnavailable("no answer")

    def wait(self, condition, seconds):
        self.looks += 1
        self.woken = condition()
        self.now += self.step
        self.left -= 1
        if not self.left:
            self.over.set()

    def monotonic(self):
        return self.now


def pod(name="p", grace=None, **status):
    return seen.read({
        "metadata": {"name": name, "resourceVersion": "1",
                     **({} if grace is None else {"deletionTimestamp": "2026-11-28T10:00:09Z",
                                                  "deletionGracePeriodSeconds": grace}),
                     "labels": {"qinling-exec/execution": "e", "qinling-exec/attempt": "1"},
                     "annotations": {"qinling-exec/timeout": "7"}},
        "spec": {}, "status": status})


def follow(monkeypatch, watch):
    class Client:
        def path(self, *parts):
            return "/".join(parts)

    monkeypatch.setattr(following, "time", watch)
    monkeypatch.setattr(following.events, "last", lambda client, name: "no room")
    one = following.Following(Client(), watch, "p", START, lambda data: True, 0)
    return one.until_end(watch.over)


def test_a_start_has_its_time(monkeypatch):
    watch = Watch(pod(phase="Pending"), 100)
    end = follow(monkeypatch, watch)
    assert (end.status, end.reason) == ("error", "start")
    assert "no room" in end.text
    assert watch.now - 100 == START + 1


def test_who_waits_for_others_is_not_late_and_takes_another_turn(monkeypatch):
    watch = Watch(pod(phase="Pending"), 100)
    watch.others = [pod("q", phase="Running", startTime="2026-11-28T10:00:00Z")]
    assert follow(monkeypatch, watch).status == "running"
    assert watch.now - 100 == START + 1


def test_who_waits_beside_others_that_wait_is_late(monkeypatch):
    watch = Watch(pod(phase="Pending"), 100)
    watch.others = [pod("q", phase="Pending")]
    assert follow(monkeypatch, watch).status == "error"


def test_a_start_has_its_time_after_others_have_ended(monkeypatch):
    watch = Watch(pod(phase="Pending"), 100)
    watch.others = [pod("q", phase="Running", startTime="2026-11-28T10:00:00Z")]
    whole = Watch.wait

    def wait(self, condition, seconds):
        whole(self, condition, seconds)
        if self.now == 105:
            self.others.clear()

    monkeypatch.setattr(Watch, "wait", wait)
    assert follow(monkeypatch, watch).status == "error"
    assert watch.now - 105 == START


@pytest.mark.parametrize("found", [pod(phase="Pending"), None])
def test_nobody_is_late_while_nobody_can_tell(monkeypatch, found):
    watch = Watch(found, 100)
    watch.current = False
    assert follow(monkeypatch, watch) is None
    assert watch.woken is False, "it waits"


def test_that_a_pod_is_gone_the_cluster_has_to_say(monkeypatch):
    watch = Watch(None, 5)
    assert follow(monkeypatch, watch) is None
    assert watch.asked == 5
    assert watch.woken is False, "it waits"


def test_a_pod_that_was_deleted_by_force_has_time_to_end(monkeypatch):
    """The next attempt began while its program was still there."""
    watch = Watch(None, 100)
    monkeypatch.setattr(watch, "refresh", lambda name: None)
    end = follow(monkeypatch, watch)
    assert (end.status, end.reason) == ("error", "deleted")
    assert watch.now - 100 == 6


@pytest.mark.parametrize(("last", "waits"), [
    (pod(phase="Running", startTime="2026-11-28T10:00:00Z"), 5),
    (pod(phase="Pending"), 0),
    (pod(phase="Running", startTime="2026-11-28T10:00:00Z", grace=1), 0),
    (pod(phase="Running", startTime="2026-11-28T10:00:00Z", grace=0), 5),
], ids=["unseen", "without a node", "in the usual way", "by force"])
def test_only_what_may_still_be_there_is_given_time_to_end(monkeypatch, last, waits):
    """Who cancelled a run without a node waited for five seconds."""
    watch = Watch(last, 100)
    whole = Watch.wait

    def wait(self, condition, seconds):
        whole(self, condition, seconds)
        if self.now == 102:
            self.pod = None

    monkeypatch.setattr(Watch, "wait", wait)
    monkeypatch.setattr(watch, "refresh", lambda name: None)
    assert follow(monkeypatch, watch).reason == "deleted"
    assert watch.now - 102 == waits


def test_what_no_node_takes_is_late_whatever_others_do(monkeypatch):
    watch = Watch(pod(phase="Pending", conditions=[{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not"
                   " helpful for scheduling."}]), 100)
    watch.others = [pod("q", phase="Running", startTime="2026-11-28T10:00:00Z")]
    end = follow(monkeypatch, watch)
    assert (end.status, end.reason) == ("error", "start")


def test_time_without_the_cluster_is_taken_out(monkeypatch):
    watch = Watch(pod(phase="Pending"), 100)
    whole = Watch.wait

    def wait(self, condition, seconds):
        whole(self, condition, seconds)
        self.current = not 103 <= self.now < 150

    monkeypatch.setattr(Watch, "wait", wait)
    end = follow(monkeypatch, watch)
    assert end.reason == "start"
    assert watch.now == 150 + START + 1 - 2
