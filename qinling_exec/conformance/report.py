# SPDX-License-Identifier: Apache-2.0
"""Runs the checks, and says of each what came of it."""

from __future__ import annotations

import http.client
import io
import pathlib
import time
import zipfile
from collections.abc import Callable
from concurrent import futures

from qinling_exec.conformance.checks import CHECKS, Check, Failed, await_running
from qinling_exec.conformance.client import Client
from qinling_exec.conformance.subject import NotStarted, Place, Subject

_FUNCTIONS = pathlib.Path(__file__).parent / "functions"
_SOURCES = {"python": "main.py", "nodejs": "main.js"}
LANGUAGES = tuple(_SOURCES)
_ANSWER_SECONDS = 30.0


def package_for(language: str) -> bytes:
    """Return the package with the function that the checks call."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        target.write(_FUNCTIONS / _SOURCES[language], _SOURCES[language])
    return buffer.getvalue()


def run(subject: Subject, package: bytes, entry: str, say: Callable[[str], None],
        at_once: int = 4) -> int:
    """Carry out every check that fits the subject; return how many did not hold.

    :param say: takes a line for each.
    :param at_once: checks, and so workers, at the same time.
    :raises NotStarted: there is no worker to check.
    """
    failed = 0
    checks = [*CHECKS, Check("SIGTERM lets runs end, then the worker ends with 0", None)]
    with futures.ThreadPoolExecutor(at_once) as threads:
        asked = [threads.submit(_complaint, subject, package, entry, check)
                 if subject.confined or not check.of_image else None for check in checks]
        try:
            for check, future in zip(checks, asked, strict=True):
                if future is None:
                    say(f"skipped {check.sentence}: that shows in the pod of an image alone")
                    continue
                complaint = future.result()
                failed += complaint is not None
                say(f"ok      {check.sentence}" if complaint is None
                    else f"FAILED  {check.sentence}: {complaint}")
        except NotStarted:
            threads.shutdown(cancel_futures=True)
            raise
    return failed


def _complaint(subject: Subject, package: bytes, entry: str,
               check: Check) -> str | None:
    """Carry out one check, the one of the end if it has nothing to call; return what is wrong."""
    with subject.start() as place:
        client = Client(place.host, place.port, package, entry)
        _wait(client, place)
        try:
            if check.carry_out is None:
                _ends(client, place)
            else:
                check.carry_out(client)
        except (Failed, ValueError, OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
    return None


def _ends(client: Client, place: Place) -> None:
    client.specialize()
    connection = client.begin({"seconds": 1, "value": "last"})
    await_running(client, 1)
    status = place.end()
    if status not in (0, None):
        raise Failed(f"it ended with status {status}")
    if status == 0 and client.finish(connection).result.get("output") != "last":
        raise Failed("the run that was going on did not come to its end")


def _wait(client: Client, place: Place) -> None:
    until = time.monotonic() + _ANSWER_SECONDS
    while not client.answers():
        if (ended := place.ended()) is not None:
            raise NotStarted(f"the worker did not start: {ended}")
        if time.monotonic() > until:
            raise NotStarted(f"the worker does not answer GET /ping on port {client.port} within"
                             f" {_ANSWER_SECONDS:.0f} seconds")
        time.sleep(0.05)
