# SPDX-License-Identifier: Apache-2.0
"""The service as a deployment has it: configured by a file, behind Keystone."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.functional.running import Running, free_port

_SETTINGS = """\
[DEFAULT]
auth_strategy = keystone
{default}
[database]
connection = sqlite:///{folder}/service.sqlite
[packages]
directory = {folder}/packages
[api]
port = {port}
{settings}
"""


class Deployed(Running):
    """One service.

    :param folder: where it keeps everything, its configuration and ``policy.yaml`` too.
    :param settings: more of its configuration file.
    :param default: more of the section [DEFAULT].
    """

    def __init__(self, folder: Path, settings: str, default: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.data_dir = folder
        self.port = free_port()
        self.url = ""
        self.log_file = folder / "service.log"
        self.config_file = folder / "qinling_exec.conf"
        self.config_file.write_text(_SETTINGS.format(
            folder=folder, port=self.port, settings=settings, default=default))
        self._start([sys.executable, "-m", "tests.functional.keystone.serving",
                     "--config-file", self.config_file])
