# SPDX-License-Identifier: Apache-2.0
"""The order of tests where files are tested side by side."""

from __future__ import annotations

import os

import pytest

#: Folders whose files take longest, for few tests.
_LONG = ("tests/functional/keystone/", "tests/kubernetes/", "tests/reliability/",
         "tests/functional/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long ones: at the end nobody waits for the last."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    return next((place for place, folder in enumerate(_LONG) if nodeid.startswith(folder)),
                len(_LONG))
