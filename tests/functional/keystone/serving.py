# SPDX-License-Identifier: Apache-2.0
"""The API and an engine in one process, as configured: a program that the tests start.

    python -m tests.functional.keystone.serving --config-file F
"""

from __future__ import annotations

import signal
import sys
import threading

from cheroot import wsgi
from oslo_log import log

from qinling_exec import conf as configuration
from qinling_exec import reports, tracing
from qinling_exec.api import app
from qinling_exec.db import migration
from qinling_exec.service import Service


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    conf = configuration.load(sys.argv[1:])
    log.setup(conf, "qinling_exec")
    reports.install(conf)
    tracing.install(conf, "api")
    service = Service(conf)
    server = wsgi.Server((conf.api.host, conf.api.port), app.build(service), numthreads=8)
    server.prepare()
    migration.upgrade(service.database)
    service.start()
    engine = service.build_engine()
    engine.start()
    answering = threading.Thread(target=server.serve)
    answering.start()
    print(f"qinling-exec is listening on http://{conf.api.host}:{conf.api.port}", flush=True)
    stop.wait()
    server.stop()
    answering.join()
    engine.stop()
    service.stop()
    tracing.uninstall()


if __name__ == "__main__":
    main()
