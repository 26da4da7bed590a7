# SPDX-License-Identifier: Apache-2.0
"""gunicorn -c etc/qinling_exec/gunicorn.conf.py qinling_exec.wsgi.api:application

The settings come from the service's own configuration, group [api]; GUNICORN_CMD_ARGS and the
command line win over them. QINLING_EXEC_CONFIG_FILES names the service's config files.
"""

import signal
import threading

from qinling_exec.cmd import refusal
from qinling_exec.wsgi import api

with refusal.told("qinling-exec-api"):
    _conf = api.load()
    refusal.check(_conf)

bind = list(_conf.api.bind)
worker_class = "gthread"
workers = _conf.api.processes
threads = _conf.api.threads
# Longer than load balancers and clients keep an idle connection.
keepalive = 75
# Let what runs end: as long as a function may take, and some more.
graceful_timeout = _conf.limits.max_timeout + 30
# The filters of a list may be long.
limit_request_line = 8190


def post_worker_init(worker):
    """Become a runner before the first request; know when the process is to end."""
    api.application.start()
    end = signal.getsignal(signal.SIGTERM)

    def release_and_end(number, frame):
        # In a thread: what a signal interrupts may hold the lock that this needs.
        threading.Thread(target=api.application.release_waiters, daemon=True).start()
        end(number, frame)

    signal.signal(signal.SIGTERM, release_and_end)


def worker_exit(server, worker):
    """Sign off: what is left counts as orphaned at once, and not after a lease."""
    api.application.stop()
