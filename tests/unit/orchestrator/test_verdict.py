# SPDX-License-Identifier: Apache-2.0
"""What the cluster says of a pod, and how its run ended; a real one shows most of it in
tests/kubernetes/test_images.py.
"""

import pytest

from qinling_exec.orchestrator.kubernetes import seen, verdict

RAN = {"startedAt": "2026-01-01T00:00:02Z", "finishedAt": "2026-01-01T00:00:05Z"}


def pod(phase="Failed", terminated=None, leaving=False, grace=0, **status):
    containers = [{"state": {"terminated": terminated}}] if terminated else []
    return seen.read({
        "metadata": {
            "name": "p", "resourceVersion": "1",
            "labels": {"qinling-exec/execution": "e", "qinling-exec/attempt": "2"},
            "annotations": {"qinling-exec/timeout": "7", "qinling-exec/log-begin": "10"},
            **({"deletionTimestamp": "2026-01-01T00:00:06Z",
                "deletionGracePeriodSeconds": grace} if leaving else {})},
        "spec": {"activeDeadlineSeconds": 67},
        "status": {"phase": phase, "startTime": "2026-01-01T00:00:00Z",
                   "containerStatuses": containers, **status}})


def judge(*args, **kwargs):
    found = pod(*args, **kwargs)
    return verdict.judge(found, found.run)


def disrupted(reason, since="2026-01-01T00:00:04Z"):
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason,
             "lastTransitionTime": since}]


def test_what_is_read_of_a_run():
    run = pod(terminated={**RAN, "exitCode": 3, "reason": "Error"}).run
    assert (run.attempt, run.timeout, run.log_begin, run.deadline) == (("e", 2), 7, 10, 67)
    assert (run.began - run.accepted, run.ended - run.began, run.exit_code) == (2, 3, 3)


@pytest.mark.parametrize(("found", "status", "reason", "duration"), [
    ({"phase": "Succeeded", "terminated": {**RAN, "exitCode": 0}}, "success", "none", 3),
    ({"terminated": {**RAN, "exitCode": 3}}, "failed", "exit", 3),
    ({"terminated": {**RAN, "exitCode": 139}}, "failed", "signal", 3),
    ({"terminated": {**RAN, "exitCode": 255}}, "failed", "exit", 3),
    ({"terminated": {**RAN, "exitCode": 137, "reason": "OOMKilled"}}, "failed", "memory", 3),
    ({"terminated": {**RAN, "exitCode": 137}, "reason": "DeadlineExceeded"},
     "failed", "timeout", 7),
    ({"terminated": {**RAN, "exitCode": 0}, "reason": "DeadlineExceeded"},
     "failed", "timeout", 7),
    ({"reason": "DeadlineExceeded"}, "error", "start", None),
    ({"reason": "Evicted", "message": "The node was low on resource: memory."},
     "error", "evicted", None),
    ({"terminated": {**RAN, "exitCode": 137}, "reason": "Evicted",
      "message": 'Usage of EmptyDir volume "scratch" exceeds the limit "256Mi".'},
     "failed", "disk", 3),
    ({"terminated": {**RAN, "exitCode": 143}, "leaving": True}, "error", "deleted", None),
    ({"terminated": {**RAN, "exitCode": 0}, "leaving": True}, "success", "none", 3),
    ({"terminated": {**RAN, "exitCode": 0}, "leaving": True, "grace": 1},
     "error", "deleted", None),
    ({"phase": "Succeeded", "terminated": {**RAN, "exitCode": 0},
      "conditions": disrupted("EvictionByEvictionAPI")}, "error", "evicted", 3),
    ({"phase": "Succeeded", "terminated": {**RAN, "exitCode": 0},
      "conditions": disrupted("EvictionByEvictionAPI", "2026-01-01T00:00:06Z")},
     "success", "none", 3),
    ({"terminated": {**RAN, "exitCode": 143}, "leaving": True,
      "conditions": disrupted("EvictionByEvictionAPI")}, "error", "evicted", 3),
    ({"conditions": disrupted("DeletionByTaintManager")}, "error", "node-lost", None),
    ({"terminated": {**RAN, "exitCode": 0}, "conditions": disrupted("DeletionByDeviceTaint")},
     "error", "deleted", None),
    ({"terminated": {**RAN, "exitCode": 137, "reason": "ContainerStatusUnknown"}},
     "error", "node-lost", 3),
    ({}, "error", "node-lost", None),
    ({"reason": "OutOfmemory", "message": "Node didn't have enough resource"},
     "error", "start", None),
])
def test_each_end_by_its_name(found, status, reason, duration):
    end = judge(**found)
    assert (end.status, end.reason, end.duration) == (status, reason, duration)
    assert (end.text is None) == (status == "success")


def test_an_image_without_the_program_says_which():
    end = judge(terminated={
        "exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:05Z", "message":
        "failed to create task: /run/containerd/x: runc: exec: \"nope\": not found in $PATH"})
    assert (end.status, end.reason, end.duration) == ("failed", "exit", None)
    assert '"nope"' in end.text
    assert "/run/containerd" not in end.text


def test_an_image_that_can_t_be_had():
    waiting = pod("Pending", containerStatuses=[{"state": {"waiting": {
        "reason": "ErrImagePull", "message": "x" * 1000}}}])
    end = verdict.late(waiting)
    assert (end.status, end.reason) == ("error", "image")
    assert len(end.text) < 400
    assert verdict.late(pod("Pending"), "0/1 nodes are available").reason == "start"


def test_a_pod_with_the_label_alone_can_be_read():
    found = seen.read({"metadata": {"name": "p", "resourceVersion": "1", "labels": {
        "qinling-exec/execution": "e", "qinling-exec/attempt": "x"}}, "spec": {}})
    assert (found.run.attempt, found.run.timeout) == (("e", 0), 0)
