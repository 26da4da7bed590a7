# SPDX-License-Identifier: Apache-2.0
"""Qinling's own Tempest tests: the published ones, in an environment of their own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.functional import environments
from tests.functional.keystone.server import Keystone

#: The plug-in reads pkg_resources and calls what tenacity 8 no longer has.
ENVIRONMENT = ("tempest", "qinling==5.0.0", "tempest==47.0.0", "tenacity<8", "setuptools<82")
#: All that this service is for.
CHOSEN = (r"qinling_tempest_plugin\.tests\.(api\.test_(executions|functions|function_versions"
          r"|runtimes)|scenario\.test_basic_ops)\.")
#: What no machine without the Internet can do, and why.
INTERNET = {"test_python_execution_public_connection": "it reads a page of the Internet"}
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
python_runtime_image = {python}
nodejs_runtime_image = {nodejs}
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
    :param python: image of the runtimes that the tests make.
    :param nodejs: image of those for JavaScript.
    """

    def __init__(self, folder: Path, keystone: Keystone, python: str, nodejs: str = "") -> None:
        self._folder = folder
        self._bin = environments.ready(*ENVIRONMENT)
        where = subprocess.run(
            [self._bin / "python", "-c",
             "import qinling_tempest_plugin as plugin; print(plugin.__path__[0])"],
            capture_output=True, text=True, check=True, timeout=60)
        plugin = Path(where.stdout.strip())
        (folder / "tempest.conf").write_text(_CONFIGURATION.format(
            folder=folder, url=keystone.url, python=python, nodejs=nodejs,
            environment=keystone.environment("admin", "admin")))
        (folder / ".stestr.conf").write_text(_STESTR.format(plugin=plugin, top=plugin.parent))

    def passed(self, pattern: str, without: Iterable[str] = ()) -> int:
        """Run the tests that match a pattern; return how many passed, which is all of them.

        One after the other: with 4 processes Keystone answered some requests with 500, and why
        was not looked into.

        :param without: names of tests that are not run.
        """
        printed = self._run(pattern, *(
            ["--exclude-regex", rf"\.({'|'.join(without)})\b"] if without else []))
        counts = {kind: int(number) for kind, number in
                  re.findall(r"^ - (\w+): +(\d+)$", printed, re.M)}
        assert (counts.get("Failed"), counts.get("Skipped")) == (0, 0), printed[-8000:]
        return counts["Passed"]

    def _run(self, *arguments: str) -> str:
        """Run tests; return what was printed."""
        command = [self._bin / "python", "-W", "ignore", "-m", "stestr.cli", "run",
                   "--concurrency", "1", *arguments]
        with (self._folder / "output").open("w+") as output:
            subprocess.run(command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=output,
                           stderr=subprocess.STDOUT, timeout=900, check=False, env={
                               "PATH": str(self._bin), "HOME": str(self._folder),
                               "PYTHONWARNINGS": "ignore",
                               "TEMPEST_CONFIG_DIR": str(self._folder)})
            output.seek(0)
            return output.read()
