# SPDX-License-Identifier: Apache-2.0
"""The checks of the worker protocol; each gets a worker of its own, and a client of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from qinling_exec.conformance.client import Client, Outcome


class Check(NamedTuple):
    """A check with the sentence that it proves.

    :param of_image: only in a pod it can be said whether it holds.
    """

    sentence: str
    carry_out: Callable[[Client], None] | None
    of_image: bool = False


CHECKS: list[Check] = []


class Failed(Exception):
    """The worker does something else than the protocol says."""


def _check(sentence: str, of_image: bool = False,
           ) -> Callable[[Callable[[Client], None]], Callable[[Client], None]]:
    def register(function: Callable[[Client], None]) -> Callable[[Client], None]:
        CHECKS.append(Check(sentence, function, of_image))
        return function
    return register


def _same(what: str, got: Any, wanted: Any) -> None:
    if got != wanted:
        raise Failed(f"{what}: {got!r} instead of {wanted!r}")


def _status(what: str, answer: tuple[int, dict[str, Any]], *wanted: int) -> dict[str, Any]:
    if answer[0] not in wanted:
        raise Failed(f"{what} is answered by {answer[0]} {answer[1]!r} instead of"
                     f" {' or '.join(map(str, wanted))}")
    if answer[0] >= 400 and not isinstance(answer[1].get("error"), str):
        raise Failed(f"{what}: an error without a sentence: {answer[1]!r}")
    return answer[1]


def _ready(client: Client, **spec: Any) -> None:
    _same("a good package", client.specialize(**spec), (200, {"status": "ready"}))


def _success(outcome: Outcome, output: Any) -> None:
    result = outcome.result
    _same("success, reason, output",
          (result.get("success"), result.get("reason"), result.get("output")),
          (True, None, output))
    if not isinstance(result.get("duration"), (int, float)) or result["duration"] < 0:
        raise Failed(f"duration: {result.get('duration')!r}")


def _failure(outcome: Outcome, *reasons: str) -> str:
    result = outcome.result
    if result.get("success") is not False or result.get("reason") not in reasons:
        raise Failed(f"success {result.get('success')!r}, reason {result.get('reason')!r} instead"
                     f" of {' or '.join(reasons)}")
    if not isinstance(result.get("output"), str):
        raise Failed(f"the output of a failure is no text: {result.get('output')!r}")
    return str(result["output"])


@_check("a generic worker answers /ping, and nothing else, to anybody")
def _generic(client: Client) -> None:
    state = _status("GET /ping", client.call("GET", "/ping", secret=""), 200)
    _same("status", state.get("status"), "generic")
    _same("running", state.get("running"), 0)
    for path in ("/execute", "/cancel/x"):
        _status(f"POST {path}", client.call("POST", path, json.dumps(client.order(None))), 401)
    _status("/specialize without a secret", client.specialize(secret=""), 401)
    _same("status", client.call("GET", "/ping")[1].get("status"), "generic")


@_check("the first /specialize brings the secret, for good")
def _binding(client: Client) -> None:
    _ready(client)
    _same("status", client.call("GET", "/ping", secret="")[1].get("status"), "ready")
    _status("a second /specialize", client.specialize(), 409)
    for secret in ("", "other", client.secret + "x"):
        _status("/specialize with another secret", client.specialize(secret=secret), 401)
        _status("/execute with another secret", client.call(
            "POST", "/execute", json.dumps(client.order(None)), secret=secret), 401)
    _status("another path", client.call("GET", "/other"), 404)
    _status("another method", client.call("GET", "/execute"), 405)


@_check("a package or spec that is refused leaves a generic worker, and its secret")
def _refusals(client: Client) -> None:
    _status("a spec without ids", client.call("POST", "/specialize", client.package,
                                              X_Worker_Spec="{}"), 400)
    _status("a package with another hash", client.specialize(package=b"x"), 400)
    _same("status", client.call("GET", "/ping")[1].get("status"), "generic")
    _status("/execute", client.call("POST", "/execute", json.dumps(client.order(None))), 409)
    _status("another secret", client.specialize(secret="other"), 401)
    _ready(client)


@_check("input is handed over, and what is returned comes back")
def _values(client: Client) -> None:
    _ready(client)
    value = {"a": [1, 2.5, None, True, "Grüße"], "b": {}}
    _success(client.run({"value": value}), value)
    _success(client.run(None), {"values": []})
    _success(client.run({}), {"values": []})
    for given in ("text", 7, [1, 2], False):
        _success(client.run(given), {"values": [given]})


@_check("the whole answer comes as JSON when no stream is asked for")
def _whole(client: Client) -> None:
    _ready(client)
    answer = _status("/execute", client.call("POST", "/execute", json.dumps(
        client.order({"value": 1, "text": "said"}))), 200)
    _success(Outcome(answer), 1)
    _same("logs", answer.get("logs"), "said\n")
    _same("log_truncated", answer.get("log_truncated"), False)


@_check("the function gets a context with the ids of its execution")
def _context(client: Client) -> None:
    _ready(client)
    order = client.order({"do": "context"})
    with contextlib.closing(client.open()) as connection:
        connection.request("POST", "/execute", json.dumps(order), client.headers())
        got = json.loads(connection.getresponse().read()).get("output")
    _same("context", got, {**{name: order[name] for name in (
        "execution_id", "attempt", "function_id", "function_version", "request_id")},
        "os_session": None})


@_check("orders for something else are refused")
def _orders(client: Client) -> None:
    _ready(client)
    for order, wanted in ((client.order(None, function_id="other"), 409),
                          (client.order(None, function_version=4), 409), ({}, 400)):
        _status("/execute", client.call("POST", "/execute", json.dumps(order)), wanted)


@_check("what a function prints is streamed while it runs")
def _stream(client: Client) -> None:
    _ready(client)
    with contextlib.closing(client.begin({"text": "early", "seconds": 3})) as connection:
        began = time.monotonic()
        response = connection.getresponse()
        head = response.read(5)
        _same("the first frame", (head[:1], response.read(6)), (b"L", b"early\n"))
        if time.monotonic() - began > 2.5:
            raise Failed("it came with the end of the run")


@_check("a function that raises is its own fault, told in output and log")
def _exception(client: Client) -> None:
    _ready(client)
    outcome = client.run({"do": "fail", "text": "the reason"})
    if "the reason" not in _failure(outcome, "exception"):
        raise Failed(f"output: {outcome.result['output']!r}")
    if b"the reason" not in outcome.log.partition(b"\n")[2]:
        raise Failed(f"the log has no trace of it: {outcome.log!r}")


@_check("a result that is no JSON, a process that ends itself")
def _spoilt(client: Client) -> None:
    _ready(client)
    _failure(client.run({"do": "no-json"}), "not-json")
    _failure(client.run({"do": "exit"}), "exit")
    _success(client.run({"value": "next"}), "next")


@_check("a timeout ends a run, whose log is kept")
def _timeout(client: Client) -> None:
    _ready(client)
    outcome = client.run({"text": "begun", "seconds": 60}, timeout=1.5)
    _same("output", _failure(outcome, "timeout"), "Function execution timeout")
    _same("log", outcome.log, b"begun\n")


@_check("/cancel ends a run and returns when it is gone")
def _cancel(client: Client) -> None:
    _ready(client)
    _status("/cancel of nothing", client.call("POST", "/cancel/nothing"), 404)
    with contextlib.closing(client.begin({"seconds": 60}, execution_id="long")) as connection:
        await_running(client, 1)
        _status("/execute of the same", client.call("POST", "/execute", json.dumps(
            client.order(None, execution_id="long"))), 409)
        _status("/cancel", client.call("POST", "/cancel/long"), 200)
        _failure(client.finish(connection), "cancelled")
    await_running(client, 0)


@_check("a run ends when its client goes away")
def _gone(client: Client) -> None:
    _ready(client)
    connection = client.begin({"seconds": 60})
    await_running(client, 1)
    connection.close()
    await_running(client, 0)


@_check("no more runs than there is room for")
def _room(client: Client) -> None:
    _ready(client, room=1)
    with contextlib.closing(client.begin({"seconds": 60})):
        await_running(client, 1)
        _status("one more", client.call("POST", "/execute", json.dumps(client.order(None))), 429)
    await_running(client, 0)
    _success(client.run({"value": "next"}), "next")


@_check("logs and results have their limits")
def _sizes(client: Client) -> None:
    _ready(client)
    outcome = client.run({"do": "print", "size": 1_000_000})
    _success(outcome, None)
    _same("log_truncated", outcome.result.get("log_truncated"), True)
    cut = b"\n[The log was cut here: its limit is 4096 bytes.]\n"
    _same("the log's end", outcome.log[4096:], cut)
    _failure(client.run({"do": "size", "size": 100_000}), "too-large")


@_check("a run that wants more memory than it may have fails alone")
def _memory(client: Client) -> None:
    _ready(client)
    _failure(client.run({"do": "memory", "size": 300 << 20}), "memory", "exception")
    _success(client.run({"value": "next"}), "next")


@_check("a run finds nothing of the one before")
def _traces(client: Client) -> None:
    _ready(client)
    for _ in range(4):
        _success(client.run({"do": "trace"}), [0, False, False])


@_check("a run has neither the secret nor the worker's environment")
def _environment(client: Client) -> None:
    _ready(client)
    outcome = client.run({"do": "environment"})
    if client.secret in json.dumps(outcome.result):
        raise Failed("the secret is in the environment")
    environment = outcome.result.get("output") or {}
    for name in environment:
        if name.endswith("_SERVICE_HOST") or name.startswith("QINLING"):
            raise Failed(f"{name} is in the environment")
    for name in ("HOME", "TMPDIR"):
        if name not in environment:
            raise Failed(f"{name} is not in the environment")


# Elsewhere a run may be root, who reads everything, and above it there is more than the worker.
@_check("a run can't read the memory and environment of the processes above it", of_image=True)
def _secrecy(client: Client) -> None:
    _ready(client)
    result = client.run({"do": "ancestors"}).result
    tried = result.get("output")
    if result.get("success") is not True or not isinstance(tried, dict):
        raise Failed(f"success {result.get('success')!r}, output {tried!r}")
    if read := [path for path, could in tried.items() if could is not False]:
        raise Failed(f"it can read {', '.join(sorted(read))}")


@_check("a connection is kept for the next request")
def _kept(client: Client) -> None:
    _ready(client)
    with contextlib.closing(client.open()) as connection:
        connection.connect()
        socket = connection.sock
        for number in range(3):
            client.begin({"value": number}, connection)
            _success(client.finish(connection), number)
            if connection.sock is not socket:
                raise Failed("the worker closed it")


def await_running(client: Client, running: int) -> None:
    """Wait until so many runs are going on.

    :raises Failed: that does not come.
    """
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with contextlib.suppress(http.client.HTTPException):
            if client.call("GET", "/ping")[1].get("running") == running:
                return
        time.sleep(0.02)
    raise Failed(f"/ping does not come to tell of {running} running")
