# SPDX-License-Identifier: Apache-2.0
"""A report of what all threads do and what is configured, to the log file or to standard error.

``kill -USR2`` of a process asks for it (a "guru meditation report").
"""

from __future__ import annotations

import signal
import threading

from oslo_config import cfg

from qinling_exec import version


class _Version:
    """What the report asks a product for."""

    @staticmethod
    def vendor_string() -> str:
        """Return who made it."""
        return "qinling-exec"

    @staticmethod
    def product_string() -> str:
        """Return its name."""
        return "qinling-exec"

    @staticmethod
    def version_string_with_package() -> str:
        """Return its version."""
        return str(version.VERSION)


def install(conf: cfg.ConfigOpts) -> None:
    """Answer the signal, unless a web server has a use of its own for it or for the thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGUSR2) in (signal.SIG_DFL, signal.SIG_IGN):
        signal.signal(signal.SIGUSR2, lambda *_: _write(conf))


def _write(conf: cfg.ConfigOpts) -> None:
    """Write the report; options that are secret are left out of it."""
    # Imported here: few ever ask, and it takes as long as a tenth of the start.
    from oslo_reports import guru_meditation_report as gmr
    from oslo_reports.generators.conf import ConfigReportGenerator

    gmr.TextGuruMeditation.register_section(
        "Configuration of the service", ConfigReportGenerator(conf))
    gmr.TextGuruMeditation.handle_signal(
        _Version(), "qinling-exec", conf.oslo_reports.log_dir, None)
