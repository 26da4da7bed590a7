# SPDX-License-Identifier: Apache-2.0
"""Holds the exchanges that were recorded from Qinling 5.0.0 with this service."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.client import LEAKS, REQUEST_ID
from tests.functional.compat.comparison import differences
from tests.functional.compat.expectations import INTENDED, REFUSED_ROWS, SKIPPED
from tests.functional.compat.preparation import PREPARE
from tests.functional.compat.recording import Exchange, read
from tests.functional.compat.replay import Replay, Reply
from tests.functional.running import Running

EXCHANGES = read()
DOCUMENT = Path(__file__).parents[2] / "doc" / "source" / "differences.rst"


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """A service without the built-in runtime, as the recorded session began."""
    running = Running(tmp_path_factory.mktemp("compat") / "data", "--empty").wait_ready()
    session = Replay(running, EXCHANGES, PREPARE, SKIPPED)
    yield session
    session.api.close()
    assert running.stop() == 0
    assert "Traceback" not in running.log, running.log[-6000:]


@pytest.mark.parametrize(
    "exchange", [exchange for exchange in EXCHANGES if exchange.name not in SKIPPED],
    ids=lambda exchange: exchange.name,
)
def test_exchange(exchange: Exchange, replay: Replay) -> None:
    reply = replay.reply(exchange)
    _check_every(exchange, reply)
    intended = INTENDED.get(exchange.name)
    if intended is None:
        found = differences(_without_refused(exchange), reply, replay.ours)
        assert found == [], f"{exchange.method} {exchange.path}: {found}"
        return
    assert reply.status == intended.status, (exchange.path, reply.text[:500])
    if intended.check is not None:
        assert intended.check(exchange, reply) == ""
        return
    fault = reply.json
    fields = {"faultstring"} if intended.bare else {"faultcode", "faultstring", "debuginfo"}
    assert set(fault) == fields
    assert re.search(intended.text, fault["faultstring"]), fault


def _check_every(exchange: Exchange, reply: Reply) -> None:
    """Hold a reply to the rules for all replies."""
    assert reply.status < 500, reply.text
    assert REQUEST_ID.fullmatch(reply.headers.get("x-openstack-request-id", "")), reply.headers
    if reply.status >= 400 and exchange.method != "HEAD":
        assert reply.headers["content-type"].partition(";")[0] == "application/json"
        assert reply.json["faultstring"]
        assert not LEAKS.search(reply.text), reply.text


def _without_refused(exchange: Exchange) -> Exchange:
    """Return the recorded exchange without rows that can't be made any more.

    And with the failure's text that the function has which is run here.
    """
    if exchange.json is None or exchange.cut:
        return exchange
    body = copy.deepcopy(exchange.json)
    if exchange.name in REFUSED_ROWS:
        member, field, value = REFUSED_ROWS[exchange.name]
        body[member] = [row for row in body[member] if row[field] != value]
    if isinstance(body, dict):
        for row in body.get("executions", []):
            row["result"] = row["result"].replace('"boom"', '"RuntimeError: boom"')
    return dataclasses.replace(exchange, reply_bytes=json.dumps(body).encode())


def test_every_exchange_is_accounted_for(record_property: Callable[[str, object], None],
                                         capsys: pytest.CaptureFixture[str]) -> None:
    names = {exchange.name for exchange in EXCHANGES}
    assert len(names) == len(EXCHANGES) == 343
    assert INTENDED.keys() <= names - SKIPPED.keys()
    assert SKIPPED.keys() <= names
    assert PREPARE.keys() <= names - SKIPPED.keys()
    as_before = len(names) - len(SKIPPED) - len(INTENDED)
    with capsys.disabled():
        print(f"\nQinling 5.0.0: {len(names)} exchanges; {as_before} hold as they were,"
              f" {len(INTENDED)} differ on purpose, {len(SKIPPED)} are not replayed")
    for topic in set(SKIPPED.values()):
        record_property(topic, sum(reason == topic for reason in SKIPPED.values()))


@pytest.mark.parametrize("topic", sorted({item.topic for item in INTENDED.values()}))
def test_difference_is_documented(topic: str) -> None:
    assert topic in DOCUMENT.read_text(encoding="utf8")
