# SPDX-License-Identifier: Apache-2.0
"""How inputs become arguments, and answers outcomes."""

import pytest

from qinling_exec.executions import dispatch, states


@pytest.mark.parametrize(("given", "expected"), [
    (None, None), ("", None), ("null", None), ('{"a": 1}', {"a": 1}), ("{}", {}),
    ("hello", "hello"), ("6", "6"), ("1.5", "1.5"), ("true", "true"), ("[1]", "[1]"),
    ('"text"', '"text"'), ('{"a": ', '{"a": '), (" ", " "),
    ('{"n": 9007199254740993}', {"n": 9007199254740993}),
])
def test_objects_are_keywords_and_all_else_is_one_text(given, expected):
    assert dispatch.arguments(given) == expected


@pytest.mark.parametrize(("answer", "status"), [
    ({"output": 1, "success": True, "duration": 0.1}, states.SUCCESS),
    ({"output": 1, "success": False, "duration": 0.1}, states.FAILED),
    ({"output": 1, "duration": 0.1}, states.FAILED),
    ({"output": 1, "success": "yes"}, states.FAILED),
    ({}, states.FAILED),
])
def test_only_a_plain_success_is_one(answer, status):
    assert dispatch._judge(answer).status == status
