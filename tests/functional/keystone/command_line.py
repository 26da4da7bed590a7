# SPDX-License-Identifier: Apache-2.0
"""Runs in the virtual environment of the client: ``openstack`` again and again.

Each line of standard input is a JSON list, the arguments of one command; each line of standard
output its exit status and what it printed. Every command is the whole program in a process of its
own; what all of them import is imported once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")

from openstackclient import shell  # noqa: E402


def _run(words):
    """Run one command; return its status and what it wrote to both streams."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for stream, number in ((out, 1), (err, 2)):
                    os.dup2(stream.fileno(), number)
                sys.argv = ["openstack", *words]
                status = shell.main(words)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
        return [status, *texts]


def main() -> None:
    """Serve commands until standard input ends."""
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


main()
