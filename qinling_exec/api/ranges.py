# SPDX-License-Identifier: Apache-2.0
"""Byte ranges of a log (RFC 9110, section 14)."""

from __future__ import annotations

import re

from qinling_exec import exceptions

_ONE = re.compile(r"bytes=([0-9]{0,1000})-([0-9]{0,1000})\Z")


def parse(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte asked for and the one behind the last.

    :returns: None when the whole is wanted: without a range, with several, or with one that
        means nothing, as the RFC has it.
    :raises qinling_exec.exceptions.RangeNotSatisfiable: there are no such bytes.
    """
    match = _ONE.match(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < begin:
            return None
    if begin >= min(end, size):
        raise _no_such(size)
    return begin, end


#: The last byte of a reply that ends nobody knows where (RFC 8673): as large as JSON can say.
OPEN_END = 2**53 - 1


def parse_live(header: str | None, size: int) -> tuple[int, int | None] | None:
    """Return the first byte asked for of a log that grows, and the one behind the last.

    :returns: None when the whole is wanted; the end is None when it is open.
    :raises qinling_exec.exceptions.RangeNotSatisfiable: the log has not come that far.
    """
    match = _ONE.match(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), None
    begin, end = int(first), int(last) + 1 if last else None
    if end is not None and end <= begin:
        return None
    if begin > size:
        raise _no_such(size)
    return begin, None if end is None or end > OPEN_END else end


def _no_such(size: int) -> exceptions.RangeNotSatisfiable:
    error = exceptions.RangeNotSatisfiable()
    error.headers = {"Content-Range": f"bytes */{size}"}
    return error
