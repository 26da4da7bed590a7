# SPDX-License-Identifier: Apache-2.0
"""Starts a worker: ``python -m qinling_exec.runtime --listen unix:/path/of.sock``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile

from qinling_exec.runtime import isolation, journal, leftovers, system
from qinling_exec.runtime.server import Server


def main() -> int:
    """Serve until told to stop; return the exit status."""
    parser = argparse.ArgumentParser(prog="qinling_exec.runtime", description=__doc__)
    parser.add_argument("--listen", default="0.0.0.0:9090", metavar="ADDRESS",
                        help="unix:/path or host:port (default: %(default)s)")
    parser.add_argument("--room", type=int, default=3, help="runs at the same time (default: 3)")
    parser.add_argument("--scratch", metavar="DIR",
                        help="directory for this worker alone (default: a temporary one)")
    parser.add_argument("--parent-fd", type=int, metavar="N",
                        help="end when the other side of this pipe is closed")
    parser.add_argument("--alone", action="store_true",
                        help="nobody else uses /tmp and /dev/shm, as in a container: what runs"
                             " leave there is removed")
    options = parser.parse_args()
    secret = os.environ.pop("QINLING_RUNTIME_SECRET", "")
    if not secret and options.listen.startswith("unix:"):
        print("QINLING_RUNTIME_SECRET must hold the secret that requests have to bring."
              " Only a worker on TCP, in a pod, may get it when it is specialised.",
              file=sys.stderr)
        return 2
    journal.install(os.environ.pop(journal.VARIABLE, ""))
    os.umask(0o022)  # runs may belong to another user, who must see the package
    apart = os.environ.get("QINLING_RUNTIME_SCRATCH")
    scratch = options.scratch or tempfile.mkdtemp(prefix="qinling-worker-", dir=apart)
    what = isolation.probe(os.getpid(), None if options.scratch else apart)
    system.set_dumpable(False)  # runs may have the same user: the secret is in this memory
    shared = leftovers.shared() if options.alone and not what.namespaces else []
    if shared and apart:
        shared.append(apart)  # a server before this one, which was killed, has left its scratch
    asyncio.run(_serve(secret, options, scratch, what, shared))
    return 0


async def _serve(secret: str, options: argparse.Namespace, scratch: str,
                 what: isolation.Isolation, shared: list[str]) -> None:
    server = Server(secret, options.room, scratch, what, shared)
    await server.serve(options.listen, options.parent_fd)


if __name__ == "__main__":
    sys.exit(main())
