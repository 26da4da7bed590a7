# SPDX-License-Identifier: Apache-2.0
"""Reports of runs, the forged ones too: a function can write to the pipe what it likes."""

import json

import pytest

from qinling_exec.runtime import outcome

REPORT = {"output": 1, "duration": 0.5, "success": True, "reason": ""}


def forged(text):
    """Frame a text that no run of this package would report."""
    data = text.encode()
    return outcome._MARK + outcome._LENGTH.pack(len(data)) + data


def test_a_report_is_read_as_it_was_written():
    assert outcome.parse(outcome.frame(REPORT, 100)) == REPORT


@pytest.mark.parametrize("duration", ["9" * 400, "1e999", "NaN", "-1", "[]", "null", '"x"'])
def test_a_duration_that_is_none_is_no_report(duration):
    """One of 400 digits raised an error that the worker did not expect."""
    text = json.dumps(REPORT).replace("0.5", duration)
    assert outcome.parse(forged(text)) is None
