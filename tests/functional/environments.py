# SPDX-License-Identifier: Apache-2.0
"""Virtual environments of published programs that can't live beside the service."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

import pytest

#: It pins an old PrettyTable and brings all of OpenStackClient.
CLIENT = ("qinlingclient", "python-qinlingclient==5.1.1", "setuptools<81")

_FOLDER = Path(__file__).parents[2] / ".tox"


def ready(name: str, *requirements: str) -> Path:
    """Return the folder of an environment's programs; it is made once for each checkout.

    Skips the test, and says so, when the packages can't be installed.
    """
    folder = _FOLDER / f"{name}-py3.{sys.version_info[1]}"
    done, wanted = folder / "installed", "\n".join(requirements)
    _FOLDER.mkdir(exist_ok=True)
    with (_FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != wanted:
            venv.create(folder, with_pip=True, clear=True)
            command = [folder / "bin/python", "-m", "pip", "install", "-q",
                       "--disable-pip-version-check", "--no-compile", *requirements]
            made = subprocess.run(command, capture_output=True, text=True, check=False,
                                  timeout=600)
            if made.returncode:
                pytest.skip(f"{requirements} CAN'T BE INSTALLED: what needs it was not tried.\n"
                            f"{made.stderr[-1000:]}")
            done.write_text(wanted)
    return folder / "bin"
