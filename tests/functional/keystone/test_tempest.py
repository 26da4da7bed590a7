# SPDX-License-Identifier: Apache-2.0
"""The Tempest tests that Qinling 5.0.0 ships, against the service behind a real Keystone."""

from __future__ import annotations

import re
from pathlib import Path

from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone
from tests.functional.keystone.tempest import Tempest

CHOSEN = (r"qinling_tempest_plugin\.tests\.(api\.test_(executions|functions|function_versions"
          r"|runtimes)|scenario\.test_basic_ops)\.")
#: What local processes can't do, and why.
WITHOUT = {
    "test_image_function_execution": "functions made of an image need pods",
    "test_image_function_execution_timeout": "functions made of an image need pods",
    "test_python_execution_cpu_limit": "a share of the CPU needs cgroups; and its function turns"
                                       " more digits into text than Python 3.11 does unasked",
    "test_python_execution_public_connection": "it reads a page of the Internet",
}


def test_every_test_of_qinlings_passes(deployed: Deployed, keystone: Keystone,
                                       tmp_path: Path) -> None:
    """One after the other: with 4 processes Keystone answered some requests with 500, and why was
    not looked into.
    """
    tempest = Tempest(tmp_path, keystone, image="python3")
    printed = tempest.run(CHOSEN, rf"\.({'|'.join(WITHOUT)})\b", processes=1)
    counts = {kind: int(number) for kind, number in
              re.findall(r"^ - (\w+): +(\d+)$", printed, re.M)}
    assert (counts.get("Failed"), counts.get("Skipped")) == (0, 0), printed[-8000:]
    assert counts["Passed"] == 33, printed[-3000:]
