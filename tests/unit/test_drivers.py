# SPDX-License-Identifier: Apache-2.0
"""Drivers by name, and what is told of those that are not there."""

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


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "qinling_exec.catalogue.packages", None)
    with pytest.raises(exceptions.InputError, match=r"driver file .*can't be loaded"):
        drivers.load(STORES, "file")
