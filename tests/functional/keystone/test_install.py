# SPDX-License-Identifier: Apache-2.0
"""The operator's installation guide for Debian, run as it is written, below a folder of its own.

What can't be done there is done by programs of the test's own, ahead of the system's in PATH: no
package is installed (they must be known to apt), no user is made, and ``systemctl`` leaves it to
the test to start what the units say. Everything else is real: the virtual environment, pip,
PostgreSQL, Keystone, the client, the configuration, and the services by their ``ExecStart``. To be
quick it lends the libraries of the tests; ``tox -e install`` has pip fetch them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import requests

from tests import databases
from tests.functional import environments, processes
from tests.functional.deployment import ROOT, Process
from tests.functional.keystone.server import Keystone
from tests.functional.running import free_port

DRIVER = Path(__file__).with_name("command_line.py")
#: Whether pip fetches all libraries, as the guide has it: a minute or more.
WHOLE = os.environ.get("QINLING_EXEC_TEST_INSTALL") == "whole"
GUIDE = ROOT / "doc/source/admin/install.rst"
UNITS = ("qinling-exec-engine", "qinling-exec-api")
#: Programs in the place of the system's own.
PROGRAMS = {
    # Whoever runs the tests plays all parts.
    "sudo": 'case $1 in -u) shift 2 ;; esac\nexec "$@"',
    "adduser": 'case "$*" in *--system*qinling) ;; *) exit 1 ;; esac',
    "apt-get": """case $1 in
update) ;;
install) shift; for name; do case $name in -*) ;; *)
    apt-cache show --no-all-versions "$name" >/dev/null || { echo "no package $name" >&2; exit 1; }
esac; done ;;
*) exit 1 ;;
esac""",
    "systemctl": f"""case $* in
daemon-reload|'enable --now {' '.join(UNITS)}') ;;
*) exit 1 ;;
esac""",
}
#: The libraries are those of the tests, and come from nowhere.
LENT = ((r'--quiet "\.\[postgresql,server\]"',
         f"--quiet --no-deps . gunicorn=={metadata.version('gunicorn')}"),)
#: ``openstack``, in what it costs only.
CLIENT = """\
#!{python} -IS
import json, sys
with open("{folder}/asked", "w") as asked:
    asked.write(json.dumps(sys.argv[1:]) + chr(10))
with open("{folder}/told") as told:
    status, out, err = json.loads(told.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""


def blocks() -> Iterator[str]:
    """Yield the guide's commands."""
    text = GUIDE.read_text(encoding="utf-8")
    for block in re.finditer(r"^\.\. code-block:: bash\n\n((?:(?: {4}.*)?\n)+)", text, re.M):
        yield textwrap.dedent(block[1])


class Place:
    """Where it is installed, and how the guide's commands are run there."""

    def __init__(self, folder: Path, keystone: Keystone, database: databases.Server) -> None:
        self.folder = folder
        self.port, self.engine_port = free_port(), free_port()
        self._keystone, self._database = keystone, database
        programs = folder / "programs"
        programs.mkdir()
        for name, text in PROGRAMS.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        for path in ("opt", "etc/systemd/system", "var/lib"):
            (folder / path).mkdir(parents=True)
        self.environment = {
            **{name: value for name, value in os.environ.items()
               if not name.startswith(("OS_", "QINLING_EXEC_", "PYTHON"))
               and (WHOLE or not name.startswith("PIP_"))},
            **keystone.environment("admin", "admin"),
            "PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(folder),
            "PGHOST": "127.0.0.1", "PGPORT": str(database.port), "PGUSER": "qinling",
            "PGDATABASE": "postgres", "no_proxy": "127.0.0.1",
        }
        self._client = self._openstack(programs / "openstack")

    def _openstack(self, program: Path) -> subprocess.Popen[bytes]:
        """Make a program that has its commands run by one that has imported all of it once."""
        program.write_text(CLIENT.format(python=sys.executable, folder=self.folder))
        program.chmod(0o755)
        ends = []
        for name in ("asked", "told"):
            os.mkfifo(self.folder / name)
            ends.append(os.open(self.folder / name, os.O_RDWR))  # so that neither side ends it
        made = subprocess.Popen([environments.ready(*environments.CLIENT) / "python", DRIVER],
                                stdin=ends[0], stdout=ends[1], env=self.environment)
        self._ends = ends
        return made

    def close(self) -> None:
        """End what it has started."""
        self._client.terminate()
        self._client.wait(20)
        for end in self._ends:
            os.close(end)

    def here(self, text: str) -> str:
        """Return commands with the paths, ports and names of this place.

        Each has to be in the guide or in a unit, else this does not do what it says.
        """
        for old, new in (
            (r"(?<![\w/.-])/(opt/qinling-exec|etc/qinling_exec|etc/systemd|var/lib/qinling_exec)",
             rf"{self.folder}/\1"),
            (r" -o (qinling|root) -g qinling", ""),  # there is no such user
            (r"http://controller:5000/v3", self._keystone.url),
            (r"controller", "127.0.0.1"), (r"\b0\.0\.0\.0\b", "127.0.0.1"),
            (r"\b7070\b", str(self.port)), (r"\b7071\b", str(self.engine_port)),
            (r"127\.0\.0\.1:5432", f"127.0.0.1:{self._database.port}"),
            # The database of the tests has a role and schemas of that name already.
            (r"ROLE qinling\b", "ROLE installed"), (r"qinling qinling$", "installed installed"),
            (r"//qinling:(\w+)@(\S+)/qinling", r"//installed:\1@\2/installed"),
            *(() if WHOLE else LENT),
        ):
            text = re.sub(old, new, text, flags=re.M)
        return text

    def run(self, text: str) -> str:
        """Run commands as one terminal would, in a clone; each has to succeed."""
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", text], cwd=self.folder / "clone",
                              capture_output=True, text=True, timeout=900, check=False,
                              stdin=subprocess.DEVNULL, env=self.environment)
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def unit(self, name: str) -> dict[str, str]:
        """Return what an installed unit says of its service."""
        path = self.folder / f"etc/systemd/system/{name}.service"
        path.write_text(self.here(path.read_text()))
        if shutil.which("systemd-analyze"):
            self.verify(path)
        lines = [line.partition("=") for line in path.read_text().splitlines()]
        return {key: value for key, _, value in lines}

    def verify(self, path: Path) -> None:
        """Let systemd read a unit; it knows no user qinling here."""
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)],
                              capture_output=True, text=True, check=False, timeout=60)
        said = [line for line in done.stderr.splitlines() if path.name in line]
        assert said == [], done.stderr

    def start(self, name: str) -> Process:
        """Do what systemd would."""
        unit = self.unit(name)
        assert (unit["Type"], unit["User"]) == ("notify", "qinling")
        variables = dict(item.split("=", 1) for item in shlex.split(unit.get("Environment", "")))
        return Process(name, self.folder, shlex.split(unit["ExecStart"]), environment={
            **self.environment, **variables})


@pytest.fixture
def place(tmp_path: Path, keystone: Keystone,
          database_servers: Callable[[str], databases.Server]) -> Iterator[Place]:
    if shutil.which("apt-cache") is None or "postgresql" not in databases.chosen():
        pytest.skip("THIS IS NO DEBIAN, or PostgreSQL is not wanted: the guide was not tried")
    made = Place(tmp_path, keystone, database_servers("postgresql"))
    # What git knows is what a clone has; ignored files such as .venv are not part of it.
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True,
                            check=False)
    if listed.returncode:
        pytest.skip("THIS IS NO CLONE: the installation guide begins with one, and was not tried")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = tmp_path / "clone" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    made.environment["PBR_VERSION"] = metadata.version("qinling-exec")
    yield made
    made.close()
    keystone.withdraw("qinling-exec")


def lend_libraries(place: Path) -> None:
    """Let a virtual environment see the libraries of this one, after its own."""
    (site,) = place.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")


def test_the_guide(place: Place) -> None:
    commands = list(blocks())
    assert len(commands) == 9
    written = "".join(commands)
    for name in ("7070", "7071", "controller", "[postgresql,server]", ":5432/"):
        assert name in written
    packages, service, *further = map(place.here, commands)
    begin = next(number for number, text in enumerate(further) if "systemctl" in text)
    place.run(packages + service)
    if not WHOLE:
        lend_libraries(place.folder / "opt/qinling-exec")
    assert "The schema is at" in place.run("\n".join(further[:begin + 1]))
    settings = place.folder / "etc/qinling_exec/qinling_exec.conf"
    assert settings.stat().st_mode & 0o777 == 0o640
    with contextlib.ExitStack() as started:
        services = []
        for name in UNITS:
            services.append(place.start(name))
            started.callback(services[-1].stop)
        log = ""

        def ready() -> bool:
            with contextlib.suppress(requests.RequestException):
                return all(requests.get(f"http://127.0.0.1:{port}/healthcheck", timeout=5).ok
                           for port in (place.port, place.engine_port))
            return any(one.process.poll() is not None for one in services)

        processes.wait_for(ready, 60)
        log = "".join(one.log for one in services)
        health, *checks, execution = place.run("\n".join(further[begin + 1:])).splitlines()
    assert json.loads(health)["status"] == "ok", log
    assert sum("Result: Success" in line for line in checks) == 7, "\n".join(checks)
    assert json.loads(json.loads(execution)["result"])["output"] == "Hello, World"
    assert "Traceback" not in "".join(one.log for one in services)
    executable = (place.folder / "opt/qinling-exec/bin/qinling-exec-manage").read_text()
    assert executable.startswith(f"#!{place.folder}/opt/qinling-exec/bin/python")
    assert sys.prefix not in executable
