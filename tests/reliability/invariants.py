# SPDX-License-Identifier: Apache-2.0
"""Holds the service's records against the ledger and the clients' histories.

The numbers are those of the promises in doc/source/reliability.rst.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.reliability.history import ENDED, RUNNING, Creation, History
from tests.reliability.ledger import Entry, Ledger

#: What the service itself writes into a log: where an attempt begins, where it was cut.
_OURS = re.compile(rb"\[[^\n]*\]")
_BEGINS = re.compile(rb"^\[Attempt \d+ begins here\.\]$", re.M)


@dataclass(frozen=True)
class Promise:
    """What a function says about repetition, as :func:`check` needs it.

    result: it returns which run it was, which a program can't.
    """

    max_attempts: int = 1
    retry_on_failure: bool = False
    result: bool = True


def check(histories: Iterable[History], ledger: Ledger,
          promises: Mapping[str, Promise] | None = None, *, logs: bool = True) -> None:
    """Fail with every violation that is found. Call it when everything has ended.

    :param promises: of functions by id; those that are not there begin once at the most.
    :param logs: also read each log.
    """
    histories = list(histories)
    found: list[str] = []
    for history in histories:
        found += history.violations
        found += _check_project(history, ledger, promises or {}, logs)
    found += _check_projects(histories)
    known = {item.id for history in histories for item in history.accepted}
    lost = {item.tag for history in histories for item in history.creations if item.unknown}
    for entry in ledger.entries():
        if entry.execution_id not in known and not lost:
            found.append(f"I5: ran and was never accepted: {entry}")
        if entry.beside:
            found.append(f"twice at the same time: {entry} beside {entry.beside}")
    if running := ledger.running():
        found.append(f"I7: runs that are still there: {running}")
    if found:
        text = "\n".join(f"- {line}" for line in found[:30])
        raise AssertionError(f"{len(found)} violations:\n{text}")


def _check_project(history: History, ledger: Ledger, promises: Mapping[str, Promise],
                   logs: bool) -> list[str]:
    rows = history.listed()
    if rows is None:
        return ["the list of executions can't be read"]
    found = _check_counts(history, rows)
    by_id = {row["id"]: row for row in rows}
    for creation in history.accepted:
        row = by_id.get(str(creation.id))
        entries = ledger.entries(creation.id)
        promise = promises.get(creation.body["function_id"], Promise())
        if row is not None:
            history._saw(creation, row)
        if row is not None and not creation.deleted:
            found += _check_row(row, entries, promise)
            if creation.cancelled and row["status"] != "cancelled":
                found.append(f"I2: cancelled with 200, and then: {row}")
            if row["status"] == "cancelled" and not creation.cancel_asked:
                found.append(f"cancelled, and nobody asked for it: {row}")
            if logs and row["status"] != RUNNING:
                found += _check_log(row, history.log(creation), creation)
        found += _check_seen(creation)
        found += _check_attempts(creation, entries, promise)
    return found


def _check_counts(history: History, rows: list[dict[str, Any]]) -> list[str]:
    """I1 and I5: what was accepted is there, and there is nothing else."""
    found = []
    ids = [row["id"] for row in rows]
    if len(ids) != len(set(ids)):
        found.append("I5: the list shows an execution twice")
    kept = {item.id for item in history.accepted if not item.deleted}
    certain = {item.id for item in history.accepted
               if not item.deleted and not item.perhaps_deleted}
    if missing := certain - set(ids):
        found.append(f"I1: {len(missing)} accepted and not in the list: {sorted(missing)[:5]}")
    if gone := {item.id for item in history.accepted if item.deleted} & set(ids):
        found.append(f"deleted with 204, and in the list: {sorted(gone)[:5]}")
    lost = {item.tag for item in history.creations if item.unknown}
    tags = [row["description"] for row in rows]
    if twice := {tag for tag in tags if tags.count(tag) > 1} if len(set(tags)) < len(tags) else ():
        found.append(f"I5: one request made several executions: {sorted(twice)[:5]}")
    for row in rows:
        if row["id"] not in kept and row["description"] not in lost:
            found.append(f"I5: there and never accepted: {row}")
        if row["status"] not in ENDED:
            found.append(f"I3: not ended: {row}")
        if row["project_id"] != history.project:
            found.append(f"I8: of another project: {row}")
    return found


def _check_row(row: dict[str, Any], entries: list[Entry], promise: Promise) -> list[str]:
    """I4, I6: the record tells what the last attempt did, and no more than the ledger saw."""
    found = []
    tried = [entry.attempt for entry in entries]
    if row["attempts"] > promise.max_attempts:
        found.append(f"I4: {row['attempts']} attempts of {promise.max_attempts}: {row}")
    if tried and max(tried) > row["attempts"]:
        found.append(f"I6: attempts {tried} ran, the record says {row['attempts']}: {row}")
    if row["status"] in ENDED and not row["finished_at"]:
        found.append(f"ended without a time: {row}")
    output = json.loads(row["result"]).get("output") if row["result"] else None
    if row["status"] == "success":
        wanted = ({"execution_id": row["id"], "attempt": row["attempts"]} if promise.result
                  else None)
        if output != wanted:
            found.append(f"I6: the result is not of attempt {row['attempts']}: {row}")
        if not any(entry.attempt == row["attempts"] and entry.end for entry in entries):
            found.append(f"success, and the ledger has no end of the attempt: {row} {entries}")
    if row["status"] in ("error", "failed") and not (isinstance(output, str) and output):
        found.append(f"{row['status']} without a reason: {row}")
    return found


def _check_attempts(creation: Creation, entries: list[Entry], promise: Promise) -> list[str]:
    """I4: no attempt runs twice, and none too many."""
    tried = [entry.attempt for entry in entries]
    if len(tried) != len(set(tried)):
        return [f"twice: attempts {tried} of {creation.id}"]
    if len(tried) > promise.max_attempts:
        return [f"I4: attempts {tried} of {creation.id}, {promise.max_attempts} are allowed"]
    if tried != sorted(tried):
        return [f"I6: attempts began in the order {tried}: {creation.id}"]
    return []


def _check_seen(creation: Creation) -> list[str]:
    """I2: a terminal state is never left, and what has ended does not change."""
    last: dict[str, Any] | None = None
    for _, row in creation.seen:
        if last is not None and last["status"] in ENDED and row != last:
            return [f"I2: changed after its end: {last} and then {row}"]
        last = row
    return []


def _check_log(row: dict[str, Any], log: bytes | None, creation: Creation) -> list[str]:
    """I9: the log is what was printed, from the beginning, attempt by attempt."""
    if log is None:
        return [f"the log can't be read: {row}"]
    lines = creation.given.get("lines", 0)
    expected: dict[int, int] = {}
    latest = 0
    # Where a run was killed its last line may be in part.
    for line in re.split(rb"\n|(?=\[)", log):
        match = re.fullmatch(rb"([0-9a-f-]{36}) (\d+) (\d+) [x\d.]*", line)
        if match is None:
            continue
        attempt, number = int(match[2]), int(match[3])
        if match[1] != row["id"].encode() or attempt < latest:
            return [f"I9, I8: a line of another run: {line[:200]!r} in {row}"]
        if number != expected.get(attempt, 0):
            return [f"I9: line {number} of attempt {attempt} follows {expected}: {row}"]
        latest, expected[attempt] = attempt, number + 1
    if row["status"] != "success":
        return []
    # Before this attempt came others, which may have left a traceback, or half a line.
    for line in _BEGINS.split(log)[-1].split(b"\n"):
        if line and not line.startswith(row["id"].encode()) and not _OURS.fullmatch(line):
            return [f"I9: {line[:200]!r} was never printed: {row}"]
    if expected.get(row["attempts"], 0) != lines:
        return [f"I9: {expected} of {lines} lines are kept of a success: {row}"]
    return []


def _check_projects(histories: list[History]) -> list[str]:
    """I8: nothing of a project is in another's hands."""
    found = []
    for one in histories:
        for other in histories:
            if one.project == other.project:
                continue
            mine = {item.id for item in one.accepted}
            theirs = {row["id"] for row in other.listed() or []}
            if mine & theirs:
                found.append(f"I8: {other.project} sees of {one.project}: {mine & theirs}")
    return found
