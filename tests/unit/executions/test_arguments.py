# SPDX-License-Identifier: Apache-2.0
"""What the program of an image gets of an input."""

import pytest

from qinling_exec import exceptions
from qinling_exec.executions import arguments


@pytest.mark.parametrize(("given", "expected"), [
    (None, ()), ("", ()), ("null", ()), ("[]", ()), (" ", ()),
    ("a b\t\nc", ("a", "b", "c")), ("6", ("6",)), ("true", ("true",)), ("é ✓", ("é", "✓")),
    ('["a b", "", 1, null, {"k": [1]}, "é"]', ("a b", "", "1", "null", '{"k": [1]}', "é")),
    ('{"a": "b c"}', ('{"a": "b c"}',)), ('{"a": ', ('{"a":',)),
])
def test_an_input_as_arguments(given, expected):
    assert arguments.of_image(given) == expected


@pytest.mark.parametrize("given", [
    "a\0b", '["a\\u0000"]', '["\\ud800"]', "x" * 128 * 1024, '["%s"]' % ("é" * 64 * 1024),
    " ".join(["x" * 100_000] * 6),
])
def test_what_can_t_be_arguments_is_refused(given):
    with pytest.raises(exceptions.InputError, match="arguments of its program"):
        arguments.of_image(given)
