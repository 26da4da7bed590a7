# SPDX-License-Identifier: Apache-2.0
"""What the cluster tells of a pod that does not start."""

import pytest

from qinling_exec.orchestrator.kubernetes import events


class Client:
    def __init__(self, *items):
        self.items = items

    def path(self, kind):
        return kind

    def request(self, method, path, **params):
        assert (method, path, params) == ("GET", "events", {"fieldSelector":
                                                            "involvedObject.name=p"})
        return {"items": list(self.items)}


def event(kind, at, message, field="lastTimestamp"):
    return {"type": kind, field: f"2026-11-28T10:00:{at:02}Z", "message": message}


@pytest.mark.parametrize(("found", "told"), [
    ([], ""),
    ([event("Normal", 1, "Successfully assigned"), event("Normal", 2, "Pulling image x")],
     "Pulling image x"),
    ([event("Warning", 1, "Failed to pull"), event("Normal", 2, "Back-off")], "Failed to pull"),
    ([event("Warning", 2, "second"), event("Warning", 1, "first")], "second"),
    ([event("Warning", 2, "no node", "eventTime"), event("Warning", 1, "first")], "no node"),
])
def test_the_last_warning_else_the_last_that_happened(found, told):
    assert events.last(Client(*found), "p") == told
