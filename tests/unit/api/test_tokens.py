# SPDX-License-Identifier: Apache-2.0
"""The cache of tokens forgets what is old, and what is too much."""

import pytest

from qinling_exec.api import tokens


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now[0])
    return now


def test_what_is_kept(clock):
    cache = tokens.Tokens()
    assert cache.get("a") is None
    cache.set("a", b"1", time=10)
    clock[0] += 9
    assert cache.get("a") == b"1"
    clock[0] += 1
    assert cache.get("a") is None


def test_nothing_is_kept_for_no_time(clock):
    cache = tokens.Tokens()
    cache.set("a", b"1", time=-1)
    assert cache.get("a") is None


def test_what_was_used_least_lately_goes(clock):
    cache = tokens.Tokens(most=2)
    cache.set("a", b"1", time=10)
    cache.set("b", b"2", time=10)
    cache.get("a")
    cache.set("c", b"3", time=10)
    assert [cache.get(key) for key in "abc"] == [b"1", None, b"3"]
