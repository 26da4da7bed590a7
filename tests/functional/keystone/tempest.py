# SPDX-License-Identifier: Apache-2.0
"""Qinling's own Tempest tests: the published ones, in an environment of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.functional import environments
from tests.functional.keystone.server import Keystone

#: The plug-in reads pkg_resources and calls what tenacity 8 no longer has.
ENVIRONMENT = ("tempest", "qinling==5.0.0", "tempest==47.0.0", "tenacity<8", "setuptools<82")
_CONFIGURATION = """\
[DEFAULT]
log_file = {folder}/tempest.log
[oslo_concurrency]
lock_path = {folder}
[identity]
auth_version = v3
uri_v3 = {url}
region = RegionOne
[auth]
use_dynamic_credentials = true
create_isolated_networks = false
admin_username = {environment[OS_USERNAME]}
admin_password = {environment[OS_PASSWORD]}
admin_project_name = {environment[OS_PROJECT_NAME]}
admin_domain_name = Default
tempest_roles = member
[service_available]
cinder = false
glance = false
horizon = false
neutron = false
nova = false
swift = false
qinling = true
[qinling]
python_runtime_image = {image}
"""
_STESTR = """\
[DEFAULT]
test_path = {plugin}/tests
top_dir = {top}
group_regex = ([^\\.]*\\.)*
"""


class Tempest:
    """A place to run them from.

    :param folder: where it keeps everything.
    :param image: what the runtimes that the tests make are made of.
    """

    def __init__(self, folder: Path, keystone: Keystone, image: str) -> None:
        self._folder = folder
        self._bin = environments.ready(*ENVIRONMENT)
        where = subprocess.run(
            [self._bin / "python", "-c",
             "import qinling_tempest_plugin as plugin; print(plugin.__path__[0])"],
            capture_output=True, text=True, check=True, timeout=60)
        plugin = Path(where.stdout.strip())
        (folder / "tempest.conf").write_text(_CONFIGURATION.format(
            folder=folder, url=keystone.url, image=image,
            environment=keystone.environment("admin", "admin")))
        (folder / ".stestr.conf").write_text(_STESTR.format(plugin=plugin, top=plugin.parent))

    def run(self, pattern: str, without: str, processes: int) -> str:
        """Run the tests that match a pattern but not the other one; return what was printed."""
        command = [self._bin / "python", "-W", "ignore", "-m", "stestr.cli", "run",
                   "--concurrency", str(processes), "--exclude-regex", without, pattern]
        with (self._folder / "output").open("w+") as output:
            subprocess.run(command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=output,
                           stderr=subprocess.STDOUT, timeout=900, check=False, env={
                               "PATH": str(self._bin), "HOME": str(self._folder),
                               "PYTHONWARNINGS": "ignore",
                               "TEMPEST_CONFIG_DIR": str(self._folder)})
            output.seek(0)
            return output.read()
