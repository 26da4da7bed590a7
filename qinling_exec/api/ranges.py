# SPDX-License-Identifier: Apache-2.0
"""Byte ranges of a log (RFC 9110, section 14)."""

from __future__ import annotations

import re

from qinling_exec import exceptions

_ONE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z")


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
        error = exceptions.RangeNotSatisfiable()
        error.headers = {"Content-Range": f"bytes */{size}"}
        raise error
    return begin, end
