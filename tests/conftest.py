# SPDX-License-Identifier: Apache-2.0
"""What all tests share: nothing that a test starts is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.functional import processes


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """At the end of the session no process is left that the tests started."""
    yield
    processes.wait_for(lambda: not _left(), 10)
    left = _left()
    processes.kill(left)
    assert left == {}, f"processes are left: {left}"


def _left() -> dict[processes.Key, str]:
    """Return children of this process, and those that were once seen below a service."""
    mine = processes.descendants(os.getpid())
    return {**mine, **processes.alive(processes.SEEN)}
