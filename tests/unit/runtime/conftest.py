# SPDX-License-Identifier: Apache-2.0
"""Workers that tests attack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.runtime.worker import Worker

#: One package for many tests: runs its input as a program, whose ``result`` is returned.
PROGRAM = """
import os, sys, time, signal, subprocess, json, threading, tempfile, ctypes, socket
counter = 0

def main(program, **kwargs):
    space = {"kwargs": kwargs, **globals()}
    exec(program, space)
    return space.get("result")

def give(*args, **kwargs):
    return [list(args), kwargs]
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """A worker whose function runs any program."""
    worker = Worker()
    try:
        worker.specialize(PROGRAM)
        yield worker
    finally:
        worker.stop()


@pytest.fixture
def fresh() -> Iterator[Worker]:
    """A generic worker of one test alone."""
    worker = Worker()
    try:
        yield worker
    finally:
        worker.stop()
