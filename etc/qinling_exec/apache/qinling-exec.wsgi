# SPDX-License-Identifier: Apache-2.0
"""What mod_wsgi loads; each of its processes begins when it is loaded, and not at a request."""

import os

os.environ.setdefault("QINLING_EXEC_CONFIG_FILES", "/etc/qinling_exec/qinling_exec.conf")

from qinling_exec.wsgi.api import application

application.start()
