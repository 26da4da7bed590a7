# SPDX-License-Identifier: Apache-2.0
"""The order of tests where files are tested side by side, and what is not tested side by side."""

from __future__ import annotations

import os
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

#: Folders whose files take longest, for few tests.
_LONG = ("tests/kubernetes/", "tests/functional/keystone/", "tests/reliability/",
         "tests/functional/")
#: Folders whose files are tested one after the other: the node of the cluster has room for one.
_ALONE = ("tests/kubernetes/",)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long ones: at the end nobody waits for the last."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Have ``--dist loadfile`` keep some folders together, as it does files."""
    return _ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


class _ByFile(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in _ALONE if file.startswith(folder)), file)


def _place(nodeid: str) -> int:
    return next((place for place, folder in enumerate(_LONG) if nodeid.startswith(folder)),
                len(_LONG))
