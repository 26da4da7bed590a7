# SPDX-License-Identifier: Apache-2.0
"""Places for waiting callers: bounded, with a line only where it moves."""

import threading

import pytest

from qinling_exec import exceptions
from qinling_exec.executions import places
from qinling_exec.executions.places import Places


def test_no_more_than_the_limit():
    here = Places(2)
    with here.one(), here.one():
        assert not here.try_one()
        with pytest.raises(exceptions.Unavailable, match="all 2 places") as refused:
            with here.one():
                raise AssertionError
        assert refused.value.headers["Retry-After"]
    assert here.try_one()
    here.give_back()


def test_a_place_comes_free_after_an_error():
    here = Places(1)
    with pytest.raises(ZeroDivisionError), here.one():
        raise ZeroDivisionError
    with here.one():
        pass


def test_who_comes_while_places_come_free_quickly_stands_in_line(monkeypatch):
    monkeypatch.setattr(places, "_PATIENCE", 60.0)
    monkeypatch.setattr(places, "_LONGEST", 60.0)
    here = Places(1)
    with here.one():
        pass
    assert here.try_one()
    served = threading.Event()

    def come():
        with here.one():
            served.set()

    caller = threading.Thread(target=come)
    caller.start()
    assert not served.wait(0.05)
    here.give_back()
    assert served.wait(10)
    caller.join()


def test_a_short_line_is_let_be_when_all_were_taken_only_just_now(monkeypatch):
    monkeypatch.setattr(places, "_PATIENCE", 60.0)
    monkeypatch.setattr(places, "_LONGEST", 0.05)
    here = Places(8)
    assert all(here.try_one() for _ in range(8))
    caller = threading.Thread(target=_refused, args=(here,))  # after a moment
    caller.start()
    caller.join(10)
    assert not caller.is_alive()
    monkeypatch.setattr(places, "_LONGEST", 60.0)
    monkeypatch.setattr(places, "_PATIENCE", 0.0)
    _refused(here)  # at once


def test_the_line_is_no_longer_than_what_came_free_just_now(monkeypatch):
    monkeypatch.setattr(places, "_LONGEST", 0.05)
    monkeypatch.setattr(places, "_PATIENCE", 60.0)
    here = Places(1)
    with here.one():
        pass
    with here.one():
        callers = [threading.Thread(target=_refused, args=(here,)) for _ in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(10)
            assert not caller.is_alive()
    assert here.try_one()


def _refused(here):
    with pytest.raises(exceptions.Unavailable), here.one():
        raise AssertionError
