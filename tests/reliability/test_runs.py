# SPDX-License-Identifier: Apache-2.0
"""What clients and functions do to the service: repeats, odd input, cancels, hostile runs."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.functional import processes
from tests.reliability import invariants
from tests.reliability.conftest import Site
from tests.reliability.history import ENDED
from tests.reliability.invariants import Promise
from tests.reliability.ledger import Ledger

pytestmark = pytest.mark.every_database
#: How often a cancel races with the end of its run.
_RACES = int(os.environ.get("QINLING_EXEC_TEST_RACES", "100"))


@pytest.mark.in_ci
def test_the_same_key_50_times_at_once(site: Site, ledger: Ledger) -> None:
    """One key through two API processes: one execution, one run, in each project."""
    site.deployment.start_engine()
    site.deployment.start_api()
    function = site.function()
    history = site.client(0, 1)
    first = history.create(function, {"ledger": ledger.port, "seconds": 0.2}, key="the same")
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: history.repeat(first), range(50)))
    assert Counter(reply.status_code for reply in replies if reply is not None) == {201: 50}
    assert {reply.json()["id"] for reply in replies if reply is not None} == {first.id}
    other = history.create(function, {"ledger": ledger.port, "seconds": 7}, key="the same")
    assert (other.id, other.refused) == (None, 409)
    theirs = Site(site.deployment)
    neighbour = theirs.client(0, 1)
    made = neighbour.create(theirs.function(), {"ledger": ledger.port}, key="the same")
    assert made.id not in (None, first.id)
    history.settle(30)
    neighbour.settle(30)
    assert len(ledger.entries(first.id)) == 1
    invariants.check([history, neighbour], ledger)
    theirs.close()


def _hostile_inputs() -> list[tuple[str, bytes]]:
    """Return bodies, with F in place of the function's id."""
    deep = "[" * 10_000 + "]" * 10_000

    def body(value: Any) -> bytes:
        return json.dumps({"function_id": "F", "sync": False, "input": value}).encode()

    return [
        ("empty", body("")), ("empty object", body("{}")), ("null", body(None)),
        ("deep", body(deep)), ("deep itself", deep.encode()), ("NaN", body("NaN")),
        ("NaN itself", b'{"function_id": "F", "sync": false, "input": NaN}'),
        ("lone surrogate", b'{"function_id": "F", "sync": false, "input": "\\ud800"}'),
        ("lone surrogate in it", body('{"a": "\\udfff"}')), ("NUL", body("a\0b")),
        ("NUL in it", body('{"a": "\\u0000"}')), ("2^53+1", body('{"a": 9007199254740993}')),
        ("a long number", body('{"a": %s}' % ("9" * 5000))),
        ("the same key twice", body('{"a": 1, "a": 2}')), ("no JSON", body("{'a': 1}")),
        ("emoji", body('"\U0001f600 \u00e4"')), ("backslashes", body("\\\\' OR 1=1; -- %s %(a)s")),
        ("a mebibyte", body("x" * 2**20)), ("too much", body("x" * (17 * 2**20))),
        ("a broken body", b'{"function_id": "F"'), ("not UTF-8", b'{"input": "\xff"}'),
    ]


@pytest.mark.in_ci("mariadb")
def test_odd_input(site: Site) -> None:
    """Refused with 4xx, or kept to the letter; never a fault, and it ends."""
    site.deployment.start_engine()
    api = site.deployment.api(project=site.project)
    code = "def main(*args, **kwargs):\n    return None\n"
    function = api.function(code, runtime_id=site.deployment.runtime)
    kept, seen = [], {}
    for name, body in _hostile_inputs():
        reply = api.request("POST", "/v1/executions",
                            data=body.replace(b'"F"', json.dumps(function).encode()),
                            headers={"Content-Type": "application/json"})
        seen[name] = reply.status_code
        assert reply.status_code == 201 or 400 <= reply.status_code < 500, (name, reply.text[:300])
        if reply.status_code == 201:
            kept.append((name, json.loads(body)["input"], reply.json()["id"]))
    print(seen)
    for name, given, made in kept:
        row = api.ended(made)
        expected = None if given in (None, "null") else given
        assert row["input"] == expected, name
        assert row["status"] in ENDED, name
    assert {"empty", "NUL", "2^53+1", "emoji", "a mebibyte"} <= {name for name, _, _ in kept}


@pytest.mark.in_ci("mariadb")
def test_cancel_racing_with_the_end(site: Site, ledger: Ledger) -> None:
    """Cancels that come at the very moment of the end: one of them wins, for good."""
    site.deployment.start_engine()
    function = site.function()
    history = site.client()
    history.create(function, {"ledger": ledger.port}, sync=True)
    chance = random.Random(1)

    def race(_: int) -> int | None:
        made = history.create(function, {"ledger": ledger.port})
        time.sleep(chance.uniform(0, 0.15))
        history.show(made)
        answer = history.cancel(made)
        history.show(made)
        return answer

    with ThreadPoolExecutor(6) as pool:
        answers = Counter(pool.map(race, range(_RACES)))
    history.settle(30)
    print(f"answers {dict(answers)},"
          f" ended {dict(Counter(row['status'] for row in history.listed() or []))}")
    assert set(answers) <= {200, 409}
    invariants.check([history], ledger)


@pytest.mark.in_ci("sqlite")
def test_whole_trees_are_gone(site: Site, ledger: Ledger) -> None:
    """Cancel: a child that ignores SIGTERM and a double-forked daemon go within 5 s."""
    site.deployment.start_engine()
    function = site.function()
    history = site.client()
    made = history.create(function, {"ledger": ledger.port, "then": "linger"})
    assert processes.wait_for(lambda: b"lingering" in (history.log(made) or b""), 30)
    began = time.monotonic()
    assert history.cancel(made) == 200
    ledger.wait_until_gone(max(0.1, began + 5 - time.monotonic()))
    invariants.check([history], ledger)


@pytest.mark.parametrize("then", ["kill-all", "kill-parent", "exit", "raise"])
def test_runs_that_end_badly(site: Site, ledger: Ledger, then: str) -> None:
    """A run kills what it can reach, or leaves: it is the one that failed, and others go on."""
    site.deployment.start_engine()
    function = site.function(max_attempts="3")
    history = site.client()
    good = [history.create(function, {"ledger": ledger.port, "seconds": 1.5, "lines": 10})
            for _ in range(2)]
    bad = [history.create(function, {"ledger": ledger.port, "then": then}) for _ in range(4)]
    history.settle(60)
    assert {(history.show(one) or {})["status"] for one in good} == {"success"}
    ended = {(history.show(one) or {})["status"] for one in bad}
    # With namespaces the parent is the first process of the run's own: nothing reaches it.
    assert ended in ([{"success"}, {"failed"}] if then == "kill-parent" else [{"failed"}])
    assert {(history.show(one) or {})["attempts"] for one in bad} == {1}
    invariants.check([history], ledger, {function: Promise(max_attempts=3)})


def test_output_without_end(site: Site, ledger: Ledger) -> None:
    """Output that never ends is cut at its limit, and says so; what was printed is kept."""
    site.deployment.start_engine()
    function = site.function()
    history = site.client()
    made = history.create(function, {"ledger": ledger.port, "lines": 2,
                                     "then": "print-and-die"})
    history.settle(30)
    row, log = history.show(made), history.log(made)
    assert row is not None and row["status"] == "failed", row
    assert log is not None
    body = log.partition(b"yyy")
    assert body[0].count(b"\n") == 2
    assert log.rstrip().endswith(b"bytes.]") and b"cut here" in log[-200:]
    assert 2**20 <= len(log) <= 2**20 + 300
    ledger.wait_until_gone(5)
    invariants.check([history], ledger, logs=False)


def test_retried_when_the_function_fails(site: Site, ledger: Ledger) -> None:
    """What the function says about its own failures is kept, and the log shows each attempt."""
    site.deployment.start_engine()
    stubborn = site.function(max_attempts="3", retry_on_failure="true")
    plain = site.function(max_attempts="3")
    history = site.client()
    given = {"ledger": ledger.port, "lines": 3}
    lucky = history.create(stubborn, {**given, "then": "raise-first"})
    hopeless = history.create(stubborn, {**given, "then": "raise"})
    single = history.create(plain, {**given, "then": "raise"})
    history.settle(60)
    found = [(row["status"], row["attempts"]) for row in
             (history.show(one) or {} for one in (lucky, hopeless, single))]
    assert found == [("success", 2), ("failed", 3), ("failed", 1)]
    log = history.log(hopeless) or b""
    for attempt in (1, 2, 3):
        assert f"{hopeless.id} {attempt} 2".encode() in log
    both = Promise(max_attempts=3, retry_on_failure=True)
    invariants.check([history], ledger, {stubborn: both, plain: Promise(max_attempts=3)})
