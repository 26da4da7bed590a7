# SPDX-License-Identifier: Apache-2.0
"""Debian's Apache with its mod_wsgi, and the site of the example."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.functional.deployment import ROOT, Process
from tests.functional.running import free_port

#: mod_wsgi does not run as root: where the tests do, it sees itself as Debian's user for it.
_OTHERWISE = ["unshare", "--user", "--map-user=33", "--map-group=33"] if os.getuid() == 0 else []
_PROGRAM = Path("/usr/sbin/apache2")
_MODULES = Path("/usr/lib/apache2/modules")
#: What stands around the site, in the place of Debian's own apache2.conf.
_AROUND = """\
ServerRoot {folder}
ServerName 127.0.0.1
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
DefaultRuntimeDir {folder}
WSGISocketPrefix {folder}/wsgi
Include {folder}/site.conf
"""


def _module() -> Path:
    return _MODULES / f"mod_wsgi.so-3.{sys.version_info[1]}"


class Apache(Process):
    """One Apache with one process of the service.

    Skips the test, and says so, where it can't be run.

    :param config: the service's configuration file.
    """

    def __init__(self, folder: Path, config: Path) -> None:
        if not _PROGRAM.exists() or not _module().exists():
            pytest.skip("APACHE WITH MOD_WSGI IS NOT HERE FOR THIS PYTHON: not tried. On Debian:"
                        " apt-get install apache2-bin libapache2-mod-wsgi-py3")
        if subprocess.run([*_OTHERWISE, "true"], check=False).returncode:
            pytest.skip("ROOT CAN'T BE ANOTHER USER HERE (unshare --map-user): no Apache tried")
        self._folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "site.conf").write_text(self._site())
        modules = {"mpm_event": _MODULES / "mod_mpm_event.so", "wsgi": _module(),
                   "authz_core": _MODULES / "mod_authz_core.so"}
        loaded = "".join(f"LoadModule {name}_module {path}\n" for name, path in modules.items())
        (folder / "apache.conf").write_text(loaded + _AROUND.format(folder=folder))
        super().__init__("apache", folder, [
            *_OTHERWISE, str(_PROGRAM), "-f", str(folder / "apache.conf"), "-DFOREGROUND",
        ], environment={"QINLING_EXEC_CONFIG_FILES": str(config), "APACHE_LOG_DIR": str(folder)})

    def _site(self) -> str:
        """Return the example with a port, a user and paths of the test's own."""
        text = (ROOT / "etc/qinling_exec/apache/qinling-exec.conf").read_text()
        path = f"python-path={sysconfig.get_path('purelib')}:{ROOT}"
        for old, new in (
            (r"7070", self.url.rpartition(":")[2]), (r"processes=2", "processes=1"),
            # Whoever starts Apache: the engine's sockets are for its own user.
            (r"user=qinling group=qinling ", ""),
            # An environment of this Python, which need not be Debian's own build of it.
            (r"python-home=\S+", path),
            (r"/etc/qinling_exec(?=[/>\s])", str(ROOT / "etc/qinling_exec/apache")),
        ):
            text, count = re.subn(old, new, text)
            assert count, f"the example has no {old}"
        return text

    @property
    def log(self) -> str:
        """All that it has printed, and the site's error log."""
        errors = self._folder / "qinling-exec.log"
        return super().log + (errors.read_text(errors="replace") if errors.exists() else "")

    def terminate(self) -> None:
        """Ask it to end when what runs has ended, as Debian's unit does."""
        self.below()
        self.process.send_signal(signal.SIGWINCH)
