# SPDX-License-Identifier: Apache-2.0
"""Runs in the virtual environment of python-qinlingclient and makes the calls it is told to.

Each line of standard input is one call of a manager; each line of standard output its outcome.
A dictionary with the one key ``file`` stands for the opened file.
"""

from __future__ import annotations

import contextlib
import json
import sys

from qinlingclient.v1.client import Client


def _plain(value):
    """Return what a call returned as JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "status_code"):
        return {"status": value.status_code, "type": value.headers.get("Content-Type"),
                "size": len(value.content), "disposition": value.headers.get(
                    "Content-Disposition"), "beginning": value.content[:4].decode("latin-1")}
    return value


def _call(client, manager, method, args, kwargs):
    with contextlib.ExitStack() as files:
        for name, value in kwargs.items():
            if isinstance(value, dict) and set(value) == {"file"}:
                kwargs[name] = files.enter_context(open(value["file"], "rb"))
        return _plain(getattr(getattr(client, manager), method)(*args, **kwargs))


def main() -> None:
    """Serve calls until standard input ends."""
    client = Client(sys.argv[1])
    for line in sys.stdin:
        try:
            outcome = {"value": _call(client, *json.loads(line))}
        except Exception as error:  # the test decides whether it should be there
            outcome = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(outcome), flush=True)


main()
