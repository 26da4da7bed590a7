# SPDX-License-Identifier: Apache-2.0
"""Byte ranges of a log."""

import pytest

from qinling_exec import exceptions
from qinling_exec.api import ranges


@pytest.mark.parametrize(("header", "expected"), [
    (None, None), ("", None), ("bytes=0-", (0, 10)), ("bytes=0-0", (0, 1)),
    ("bytes=3-5", (3, 6)), ("bytes=3-99", (3, 10)), (f"bytes=3-{10**30}", (3, 10)),
    ("bytes=-4", (6, 10)), ("bytes=-99", (0, 10)), ("bytes=9-", (9, 10)), ("bytes=5-3", None),
    ("bytes=-", None),
    ("bytes=1-2,4-5", None), ("lines=1-2", None), ("bytes=a-b", None), ("bytes=\u0661-", None),
])
def test_ranges(header, expected):
    assert ranges.parse(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-", "bytes=10-20", "bytes=-0",
                                    f"bytes={10**30}-"])
def test_ranges_behind_the_end(header):
    with pytest.raises(exceptions.RangeNotSatisfiable) as caught:
        ranges.parse(header, 10)
    assert caught.value.headers == {"Content-Range": "bytes */10"}


def test_no_range_is_in_an_empty_log():
    with pytest.raises(exceptions.RangeNotSatisfiable):
        ranges.parse("bytes=0-", 0)


@pytest.mark.parametrize(("header", "expected"), [
    (None, None), ("", None), ("bytes=-", None), ("bytes=5-4", None), ("lines=1-", None),
    ("bytes=0-", (0, None)), ("bytes=4-", (4, None)), ("bytes=10-", (10, None)),
    ("bytes=2-5", (2, 6)), ("bytes=10-12", (10, 13)), ("bytes=2-99", (2, 100)),
    ("bytes=-3", (7, None)), ("bytes=-0", (10, None)), ("bytes=-99", (0, None)),
    ("bytes=3-9007199254740991", (3, None)),
])
def test_a_log_that_grows(header, expected):
    assert ranges.parse_live(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=11-", "bytes=11-20"])
def test_a_log_that_has_not_come_that_far(header):
    with pytest.raises(exceptions.RangeNotSatisfiable) as error:
        ranges.parse_live(header, 10)
    assert error.value.headers == {"Content-Range": "bytes */10"}
