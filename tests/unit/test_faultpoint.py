# SPDX-License-Identifier: Apache-2.0
"""Fault points: nothing without an order, exactly the order with one."""

import os
import signal
import subprocess
import sys

import pytest

from qinling_exec import faultpoint

REACH = "from qinling_exec import faultpoint; [faultpoint.reach('claimed') for _ in range(3)]"


def run(order):
    environment = {**os.environ, "QINLING_EXEC_FAULTPOINTS": order}
    return subprocess.run([sys.executable, "-c", REACH], env=environment, check=False,
                          capture_output=True).returncode


@pytest.mark.parametrize(("order", "code"), [
    ("", 0), ("posted=kill", 0), ("claimed=kill", -signal.SIGKILL),
    ("claimed=kill:3", -signal.SIGKILL), ("claimed=kill:4", 0), ("claimed=raise", 1),
    ("nowhere=kill", 1), ("claimed=explode", 1),
])
def test_an_order_is_carried_out(order, code):
    assert run(order) == code


def test_nothing_is_armed_without_an_order():
    assert faultpoint.parse("") is None
