# SPDX-License-Identifier: Apache-2.0
"""The watch over runs: what it ends, and what it says about it."""

import logging
import threading

import pytest

from qinling_exec.executions import states
from qinling_exec.executions.watch import Watch

FENCE = states.Fence("gone", "me", 1)


class Runs:
    """One run whose execution is not this process's; it may end while the watch looks."""

    def __init__(self, goes_on):
        self.goes_on, self.ended = goes_on, threading.Event()

    def fences(self):
        return [FENCE]

    def mark(self, fence, asked):
        return self.goes_on

    def end(self, fence):
        self.ended.set()


@pytest.mark.parametrize("goes_on", [True, False])
def test_only_of_a_run_that_goes_on_it_is_said_that_it_is_ended(database, caplog, goes_on):
    """One that ends in good order during the look was called another's, with a warning."""
    runs = Runs(goes_on)
    with caplog.at_level(logging.WARNING):
        Watch(database, runs).look()
    assert runs.ended.wait(10 if goes_on else 0.05) is goes_on
    assert ("its run is ended" in caplog.text) is goes_on
