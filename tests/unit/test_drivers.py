# SPDX-License-Identifier: Apache-2.0
"""Drivers by name, and what is told of those that are not there."""

import subprocess
import sys

import pytest

from qinling_exec import drivers, exceptions
from qinling_exec.catalogue.packages import FileStore

STORES = "qinling_exec.package_store"


def test_by_its_name():
    assert drivers.load(STORES, "file") is FileStore


def test_not_installed():
    with pytest.raises(exceptions.InputError, match=r"driver fiel .*installed are: .*\bfile\b"):
        drivers.load(STORES, "fiel")


def test_the_driver_for_pods_needs_its_library_in_engines_only():
    """API processes load it too; where they run nobody has to install the extra."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['kubernetes'] = None\n"
         "from qinling_exec import drivers\n"
         "drivers.load('qinling_exec.orchestrator', 'kubernetes')"],
        capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "qinling_exec.catalogue.packages", None)
    with pytest.raises(exceptions.InputError, match=r"driver file .*can't be loaded"):
        drivers.load(STORES, "file")
