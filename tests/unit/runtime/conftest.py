# SPDX-License-Identifier: Apache-2.0
"""Workers that tests attack."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import uuid
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

def allowed(tries):
    found = []
    for name, call in tries.items():
        try:
            call()
            found.append(name)
        except OSError:
            pass
    return found
"""


@pytest.fixture
def mark() -> str:
    """A word that no other process has in its command line."""
    return uuid.uuid4().hex


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


#: Makes a world in which no namespace can be had and no other user, as in a container.
CONFINED = ("unshare", "--user", "--map-root-user", "sh", "-c",
            'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh")


#: The same on a kernel without Landlock.
BARE = (*CONFINED, sys.executable, str(pathlib.Path(__file__).with_name("layers.py")))


@pytest.fixture(scope="module")
def confined() -> Iterator[Worker]:
    """As ``worker``, in what a pod is: nothing but Landlock keeps runs apart."""
    yield from _confined(CONFINED)


@pytest.fixture(scope="module")
def bare() -> Iterator[Worker]:
    """As ``worker``, where the kernel offers nothing to keep runs apart."""
    yield from _confined(BARE)


def _confined(wrap: tuple[str, ...]) -> Iterator[Worker]:
    if subprocess.run([*CONFINED, "true"], capture_output=True).returncode:
        pytest.skip("there are no user namespaces here to begin with")
    worker = Worker(wrap=wrap, apart=True)
    try:
        assert worker.ping()["isolation"]["private_tmp"] is False
        worker.specialize(PROGRAM)
        yield worker
    finally:
        worker.stop()


@pytest.fixture(params=["worker", "confined"])
def either(request: pytest.FixtureRequest) -> Worker:
    """A worker that runs any program, with and without namespaces."""
    worker: Worker = request.getfixturevalue(request.param)
    return worker
