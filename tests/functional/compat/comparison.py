# SPDX-License-Identifier: Apache-2.0
"""Compares a reply with the recorded one: status, fields, types and texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tests.functional.compat.recording import CUT, Exchange
from tests.functional.compat.replay import Reply

TIMES = {"created_at", "updated_at"}
# Values that differ from run to run: only the type counts.
TYPE_ONLY = {"md5sum", "count", "worker_name", "total", "available", "duration"}
# Fields that objects have here and had not there; a client that does not know them ignores them.
ADDED = {"started_at", "finished_at", "attempts", "request_id", "next", "max_attempts",
         "retry_on_failure", "status_reason"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_SET = re.compile(r"\{('[^{}]*')\}")
_FIELD = re.compile(r'"(\w+)": ')


def differences(exchange: Exchange, reply: Reply, ours: Callable[[str], str]) -> list[str]:
    """Return what is not as it was, in words; nothing when the exchange holds.

    :param ours: puts the ids of now into a recorded text.
    """
    if reply.status != exchange.status:
        return [f"status {reply.status}, was {exchange.status}; now: {reply.text[:300]}"]
    found: list[str] = []
    for name in ("location", "content-disposition"):
        if name in exchange.reply_headers:
            _same(found, name, ours(exchange.reply_headers[name]), reply.headers.get(name))
    if "allow" in exchange.reply_headers and not reply.headers.get("allow"):
        found.append("there is no Allow header")
    if exchange.method == "HEAD" or exchange.status in (204, 302):
        return found
    if exchange.status >= 400:
        _compare_fault(found, exchange, reply, ours)
        return found
    _same(found, "content-type", _media_type(exchange.reply_headers), _media_type(reply.headers))
    if found:
        return found
    if exchange.cut:
        _compare_beginning(found, exchange, reply)
    elif exchange.json is not None:
        _compare(found, "", exchange.json, reply.json, ours)
    else:
        _same(found, "body", exchange.reply_bytes if "zip" in _media_type(exchange.reply_headers)
              else ours(exchange.text).encode(), reply.body)
    return found


def _media_type(headers: dict[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip()


def _same(found: list[str], where: str, expected: Any, actual: Any) -> None:
    if type(expected) is not type(actual) or expected != actual:
        found.append(f"{where}: {str(actual)[:300]!r}, was {str(expected)[:300]!r}")


def _compare(found: list[str], where: str, expected: Any, actual: Any,
             ours: Callable[[str], str]) -> None:
    key = where.rpartition(".")[2]
    if isinstance(expected, dict) and isinstance(actual, dict):
        if expected.keys() != actual.keys() - ADDED:
            found.append(f"{where}: fields {sorted(actual)}, were {sorted(expected)}")
        for name in expected.keys() & actual.keys():
            _compare(found, f"{where}.{name}", expected[name], actual[name], ours)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            found.append(f"{where}: {len(actual)} items, were {len(expected)}: {actual}"[:600])
        for one, other in zip(expected, actual, strict=False):
            _compare(found, f"{where}.", one, other, ours)
    elif key in TIMES and isinstance(expected, str):
        if not (isinstance(actual, str) and _TIME.fullmatch(actual)):
            found.append(f"{where}: {actual!r} is no time like {expected!r}")
    elif key in TYPE_ONLY:
        if not _alike(expected, actual):
            found.append(f"{where}: {actual!r} is of another type than {expected!r}")
    elif key in ("result", "code") and isinstance(expected, str) and isinstance(actual, str):
        _compare(found, where + "(JSON)", json.loads(expected), json.loads(actual), ours)
    else:
        _same(found, where, ours(expected) if isinstance(expected, str) else expected, actual)


def _alike(expected: Any, actual: Any) -> bool:
    if isinstance(expected, float | int) and not isinstance(expected, bool):
        return isinstance(actual, float | int) and not isinstance(actual, bool)
    return type(expected) is type(actual)


def _compare_fault(found: list[str], exchange: Exchange, reply: Reply,
                   ours: Callable[[str], str]) -> None:
    """Compare a refusal; what came without a faultstring has one now."""
    expected, actual = exchange.json, reply.json
    if "faultstring" not in (expected or {}):
        if set(actual) != {"faultcode", "faultstring", "debuginfo"}:
            found.append(f"fields {sorted(actual)}")
        return
    _same(found, "fields", sorted(expected), sorted(actual))
    _same(found, "faultstring", _sorted_sets(ours(expected["faultstring"])),
          _sorted_sets(actual.get("faultstring", "")))


def _sorted_sets(text: str) -> str:
    """Order what was printed as a Python set: there the order was by chance."""
    return _SET.sub(lambda found: f"{{{', '.join(sorted(found[1].split(', ')))}}}", text)


def _compare_beginning(found: list[str], exchange: Exchange, reply: Reply) -> None:
    """Compare with a reply of which only the beginning is known."""
    if _media_type(exchange.reply_headers) == "text/plain":
        known = CUT.split(exchange.text)[0]
        _same(found, "beginning", known, reply.text[:len(known)])
        return
    actual = reply.json
    values = next(iter(actual.values()))
    item = values[0] if isinstance(values, list) else actual
    known = CUT.split(exchange.text)[0]
    names = set(_FIELD.findall(known)) - set(() if item is actual else actual)
    if not names <= set(item):
        found.append(f"fields {sorted(item)}, were {sorted(names)}")
