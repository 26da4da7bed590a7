# SPDX-License-Identifier: Apache-2.0
"""The Tempest tests that Qinling 5.0.0 ships, against the service behind a real Keystone."""

from __future__ import annotations

from pathlib import Path

from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone
from tests.functional.keystone.tempest import CHOSEN, INTERNET, Tempest

#: What local processes can't do, and why; tests/kubernetes/test_tempest.py has them run.
WITHOUT = {
    **INTERNET,
    "test_image_function_execution": "functions made of an image need pods",
    "test_image_function_execution_timeout": "functions made of an image need pods",
    "test_python_execution_cpu_limit": "a share of the CPU needs cgroups; and its function turns"
                                       " more digits into text than Python 3.11 does unasked",
}


def test_every_test_of_qinlings_passes(deployed: Deployed, keystone: Keystone,
                                       tmp_path: Path) -> None:
    assert Tempest(tmp_path, keystone, python="python3").passed(CHOSEN, WITHOUT) == 33
