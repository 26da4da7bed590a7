# SPDX-License-Identifier: Apache-2.0
"""GET /v1/executions/{id}/log."""

from __future__ import annotations

import pytest

from tests.functional import processes
from tests.functional.client import Api

pytestmark = pytest.mark.every_database

ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
MISSING = "5b0c0a3e-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def logged(session_api: Api) -> str:
    """An execution that has printed the alphabet."""
    code = f"def main(**kwargs):\n    print({ALPHABET.decode()!r}, end='')\n"
    return str(session_api.run(session_api.function(code))["id"])


@pytest.fixture(scope="module")
def silent(session_api: Api) -> str:
    """An execution that has printed nothing."""
    return str(session_api.run(session_api.function())["id"])


def test_whole_log(api: Api, logged: str) -> None:
    assert api.log(logged) == ALPHABET
    assert api.log(logged, Accept="*/*") == ALPHABET


def test_nothing_printed(api: Api, silent: str) -> None:
    assert api.log(silent) == b""


def test_stdout_and_stderr_in_their_order(api: Api) -> None:
    code = '''
import os
import subprocess
import sys


def main(**kwargs):
    print("one")
    print("two", file=sys.stderr)
    os.write(1, b"three\\n")
    subprocess.run(["/bin/echo", "four"], check=True)
    sys.stdout.write("ü ✓ no end of line")
'''
    expected = "one\ntwo\nthree\nfour\nü ✓ no end of line"
    assert api.log(api.run(api.function(code))["id"]).decode() == expected


def test_bytes_that_are_no_text(api: Api) -> None:
    code = "import os\n\n\ndef main(**kwargs):\n    os.write(1, bytes(range(256)))\n"
    made = api.run(api.function(code))
    assert made["status"] == "success"
    log = api.log(made["id"])
    assert b"abc" in log
    assert log == bytes(range(256)) or log.decode("utf8")


def test_log_is_readable_while_it_runs(api: Api) -> None:
    code = ("import time\n\n\ndef main(**kwargs):\n    print('first')\n    time.sleep(3)\n"
            "    print('second')\n")
    made = api.run(api.function(code), sync=False)
    assert processes.wait_for(lambda: api.log(made["id"]) == b"first\n", 10)
    assert api.show(made["id"])["status"] == "running"
    assert api.ended(made["id"])["status"] == "success"
    assert api.log(made["id"]) == b"first\nsecond\n"


def test_log_of_what_was_killed(api: Api) -> None:
    code = ("import os\nimport time\n\n\ndef main(**kwargs):\n    print('before')\n"
            "    os.write(1, b'x' * 5000)\n    time.sleep(30)\n")
    made = api.run(api.function(code, timeout="1"))
    assert made["status"] == "failed"
    assert api.log(made["id"]) == b"before\n" + b"x" * 5000


def test_log_over_its_limit_keeps_its_beginning_and_says_so(api: Api) -> None:
    code = ("def main(**kwargs):\n    print('the beginning')\n    for number in range(40):\n"
            "        print('y' * 99999)\n    return 'done'\n")
    made = api.run(api.function(code, timeout="30"))
    assert made["status"] == "success"
    log = api.log(made["id"])
    assert log.startswith(b"the beginning\nyyyy")
    assert 900_000 < len(log) < 1_200_000
    last = log.rstrip(b"\n").rpartition(b"\n")[2]
    assert b"yyy" not in last
    assert b"1048576" in last or b"limit" in last.lower()


@pytest.mark.parametrize(("asked", "first", "last"), [
    ("bytes=0-0", 0, 0), ("bytes=0-4", 0, 4), ("bytes=5-9", 5, 9), ("bytes=20-", 20, 25),
    ("bytes=-3", 23, 25), ("bytes=-100", 0, 25), ("bytes=20-9999", 20, 25),
    ("bytes=25-25", 25, 25),
])
def test_range(api: Api, logged: str, asked: str, first: int, last: int) -> None:
    reply = api.request("GET", f"/v1/executions/{logged}/log",
                        headers={"Accept": "text/plain", "Range": asked})
    assert reply.status_code == 206
    assert reply.headers["Content-Range"] == f"bytes {first}-{last}/26"
    assert reply.content == ALPHABET[first:last + 1]
    assert reply.headers["Content-Type"].lower() == "text/plain; charset=utf-8"


@pytest.mark.parametrize("asked", ["bytes=26-", "bytes=100-200", "bytes=-0"])
def test_range_that_is_not_there(api: Api, logged: str, asked: str) -> None:
    reply = api.request("GET", f"/v1/executions/{logged}/log",
                        headers={"Accept": "text/plain", "Range": asked})
    assert reply.status_code == 416
    assert reply.headers["Content-Range"] == "bytes */26"


@pytest.mark.parametrize("asked", ["bytes=x", "lines=1-2", "bytes=9-5", "bytes", "bytes=--1"])
def test_range_that_means_nothing_is_ignored(api: Api, logged: str, asked: str) -> None:
    reply = api.request("GET", f"/v1/executions/{logged}/log",
                        headers={"Accept": "text/plain", "Range": asked})
    assert (reply.status_code, reply.content) == (200, ALPHABET)


def test_log_says_that_ranges_can_be_asked_for(api: Api, logged: str) -> None:
    reply = api.request("GET", f"/v1/executions/{logged}/log", headers={"Accept": "text/plain"})
    assert reply.headers["Accept-Ranges"] == "bytes"


def test_range_of_an_empty_log(api: Api, silent: str) -> None:
    reply = api.request("GET", f"/v1/executions/{silent}/log",
                        headers={"Accept": "text/plain", "Range": "bytes=0-"})
    assert reply.status_code in (200, 416)
    assert reply.status_code == 416 or reply.content == b""


@pytest.mark.parametrize("accept", ["application/json", "text/html", "application/xml"])
def test_log_is_plain_text_only(api: Api, logged: str, accept: str) -> None:
    assert api.refused("GET", f"/v1/executions/{logged}/log", 406, headers={"Accept": accept})
    assert api.refused("GET", f"/v1/executions/{MISSING}/log", 406, headers={"Accept": accept})


@pytest.mark.parametrize("execution", ["abc", MISSING])
def test_log_of_nothing(api: Api, execution: str) -> None:
    reply = api.request("GET", f"/v1/executions/{execution}/log", headers={"Accept": "*/*"})
    assert reply.status_code == 404
    assert reply.json() == {"faultstring": f"Execution not found [id={execution}]"}
