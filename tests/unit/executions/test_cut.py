# SPDX-License-Identifier: Apache-2.0
"""The log of what does not cut it itself."""

import pytest

from qinling_exec.executions import logs

CUT = b"\n[The log was cut here: its limit is 5 bytes.]\n"


class Written(list):
    """What a sink is given."""

    write = list.append


@pytest.mark.parametrize(("known", "pieces", "kept"), [
    (0, [b"abc", b"de"], b"abcde"),
    (0, [b"abc", b"def", b"g"], b"abcde" + CUT),
    (0, [b"abcde", b"f"], b"abcde" + CUT),
    (3, [b"de"], b"de"),
    (3, [b"def"], b"de" + CUT),
    (5, [b"f"], CUT),
    (5 + len(CUT), [b"f"], b""),
])
def test_a_log_is_cut_once_and_says_so(known, pieces, kept):
    written = Written()
    cut = logs.Cut(written, 5, known)
    wanted = [cut.write(piece) for piece in pieces]
    assert b"".join(written) == kept
    assert wanted[-1] == (CUT not in kept and known <= 5)
