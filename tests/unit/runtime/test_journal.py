# SPDX-License-Identifier: Apache-2.0
"""The worker's own log: text, or JSON; with the ids of the request that asked for a run."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from qinling_exec.runtime import journal
from tests.unit.runtime.worker import Worker

ENDS = "import os\ndef main(**kwargs):\n    os._exit(3)\n"
IDS = {"request_id": "req-own", "global_request_id": "req-of-the-caller"}
NODE = Path(__file__).parents[3] / "runtimes/nodejs/worker/journal.js"


def said(how: str) -> list[str]:
    """Return what a worker says that had a run which ended itself."""
    worker = Worker(environment={"QINLING_RUNTIME_LOG": how})
    try:
        worker.specialize(ENDS)
        assert worker.run(execution_id="e1", **IDS)["reason"] == "exit"
        return worker.stderr.read_text().splitlines()
    finally:
        worker.stop()


def test_json() -> None:
    lines = [json.loads(line) for line in said("json")]
    assert lines[0]["message"].startswith("listening on unix:")
    (line,) = [line for line in lines if line["message"] == "execution e1 ended: exit"]
    assert (line["levelname"], line["context"]) == ("INFO", IDS)


def test_text() -> None:
    assert said("")[-1].endswith("INFO req-own req-of-the-caller: execution e1 ended: exit")


def test_json_of_an_error_is_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "a request failed", (),
                                   (type(error), error, error.__traceback__))
    (line,) = journal._Json().format(record).splitlines()
    assert json.loads(line)["traceback"][-2:] == ["ValueError: two", "lines"]


@pytest.mark.skipif(not shutil.which("node"), reason="THERE IS NO NODE for the worker of Node.js")
def test_nodejs() -> None:
    program = f"""const journal = require({json.dumps(str(NODE))});
        journal.write("INFO", "ended", {{ request: {json.dumps(IDS)} }});
        journal.write("ERROR", "failed", {{ error: new Error("two\\nlines") }});"""

    def said(how: str) -> list[str]:
        done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True,
                              env={**os.environ, "QINLING_RUNTIME_LOG": how})
        return done.stderr.splitlines()

    ended, failed = map(json.loads, said("json"))
    assert (ended["message"], ended["levelname"], ended["context"]) == ("ended", "INFO", IDS)
    assert failed["traceback"][:2] == ["Error: two", "lines"]
    assert said("")[0].endswith("INFO req-own req-of-the-caller: ended")
