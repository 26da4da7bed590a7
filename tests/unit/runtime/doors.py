# SPDX-License-Identifier: Apache-2.0
"""The two doors that a package comes in through: the check of an upload, and unpacking."""

from __future__ import annotations

import io
import pathlib

import pytest

from qinling_exec.runtime import package
from qinling_exec.runtime.package import Limits, PackageRefused
from tests.unit.runtime.zips import Entry

LIMITS = Limits(size=1_000_000, unpacked_size=3_000_000, entries=50, ratio=100)
MAIN = Entry(b"main.py", b"def main():\n    return 1\n")
NOT_A_ZIP = "Package is not a valid ZIP package."


def refusal(data: bytes, tmp_path: pathlib.Path, limits: Limits = LIMITS,
            only_unpacking: bool = False) -> str:
    """Return why a package is refused; both doors refuse it and nothing is left."""
    with pytest.raises(PackageRefused) as unpacking:
        package.unpack(io.BytesIO(data), str(tmp_path / "code"), limits)
    assert list(tmp_path.iterdir()) == []
    if not only_unpacking:
        with pytest.raises(PackageRefused) as checking:
            package.check(io.BytesIO(data), limits)
        assert str(checking.value) == str(unpacking.value)
    return str(unpacking.value)


def unpacked(data: bytes, tmp_path: pathlib.Path, limits: Limits = LIMITS) -> dict[str, bytes]:
    """Return the files of a good package by their path."""
    package.check(io.BytesIO(data), limits)
    code = tmp_path / "code"
    package.unpack(io.BytesIO(data), str(code), limits)
    assert list(tmp_path.iterdir()) == [code]
    return {str(path.relative_to(code)): path.read_bytes()
            for path in code.rglob("*") if path.is_file()}
