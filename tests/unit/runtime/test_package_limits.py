# SPDX-License-Identifier: Apache-2.0
"""Packages that are too large, or lie about what is in them."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qinling_exec.runtime import package
from qinling_exec.runtime.package import Limits, PackageRefused
from tests.unit.runtime.doors import LIMITS, MAIN, refusal, unpacked
from tests.unit.runtime.zips import DEFLATED, STORED, Entry, build, deflate


def test_size(tmp_path):
    data = build(MAIN)
    unpacked(data, tmp_path, Limits(size=len(data)))
    (tmp_path / "code" / "main.py").unlink()
    (tmp_path / "code").rmdir()
    assert refusal(data, tmp_path, Limits(size=len(data) - 1)) == (
        f"A package may have {len(data) - 1} bytes at the most.")


def test_unpacked_size(tmp_path):
    data = build(*(Entry(b"f%d" % number, os.urandom(1000), STORED) for number in range(5)))
    assert len(unpacked(data, tmp_path, Limits(unpacked_size=5000))) == 5
    for path in (tmp_path / "code").iterdir():
        path.unlink()
    (tmp_path / "code").rmdir()
    assert "4999 bytes at the most when unpacked" in refusal(data, tmp_path,
                                                             Limits(unpacked_size=4999))


def test_ratio(tmp_path):
    data = build(MAIN, Entry(b"zeros", b"\0" * 2_000_000))
    assert refusal(data, tmp_path) == "The entry 'zeros' unpacks to more than 100 times its size."
    assert unpacked(build(Entry(b"zeros", b"\0" * 1_000_000)), tmp_path)


def test_number_of_entries(tmp_path):
    entries = [Entry(b"f%d" % number) for number in range(51)]
    text = "A package may have 50 files and folders at the most."
    assert refusal(build(*entries), tmp_path) == text
    assert refusal(build(*entries, count=1), tmp_path) == text
    assert len(unpacked(build(*entries[:50]), tmp_path)) == 50


def test_folders_that_are_only_implied_count(tmp_path):
    deep = Entry(b"d/" * 50 + b"f", b"x")
    assert "50 files and folders" in refusal(build(deep), tmp_path)
    assert unpacked(build(Entry(b"d/" * 49 + b"f", b"x")), tmp_path)


def test_a_million_entries_cost_no_memory(tmp_path):
    """They are counted, whatever the end of the file says, before an object is made of each."""
    record = Entry(b"f").record(0)
    for count in (1, 40, 0xFFFF):
        directory = record * 1_000_000
        data = io.BytesIO(Entry(b"f").local() + directory + struct.pack(
            "<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(Entry(b"f").local()),
            0))
        tracemalloc.start()
        try:
            with pytest.raises(PackageRefused):
                package.check(data, Limits(entries=50))
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


def test_zip64_record_that_contradicts_the_end(tmp_path):
    """The standard reader would follow the ZIP64 record and read a directory nobody counted."""
    body = MAIN.local()
    hidden = Entry(b"f").record(0) * 1000
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1000, 1000, len(hidden),
                         len(body))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body) + len(hidden), 1)
    size = len(body + hidden + record + locator)
    data = body + hidden + record + locator + struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46, size - 46, 0)
    assert len(zipfile.ZipFile(io.BytesIO(data)).infolist()) == 1000
    assert "ZIP64" in refusal(data, tmp_path)


def test_long_description(tmp_path):
    assert "description" in refusal(build(Entry(b"a", b"x", comment=b"c" * 9000)), tmp_path)


def test_bombs_of_overlapping_entries(tmp_path):
    kernel = Entry(b"a", b"x" * 5000)
    offset = len(MAIN.local())
    shared = [Entry(b"%d" % number, kernel.data, local_name=b"a", raw=b"", offset=offset,
                    packed_size=len(kernel.packed)) for number in range(5)]
    body, directory = MAIN.local() + kernel.local(), b""
    for entry in shared:
        directory += entry.record(0)
    data = body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, len(directory),
                                          len(body), 0)
    assert refusal(data, tmp_path) == "The package has entries that overlap."


def test_quoted_overlap(tmp_path):
    """An entry whose content is another entry with its header."""
    inner = Entry(b"b", b"x" * 100, STORED)
    outer = Entry(b"a", inner.local(), STORED)
    body = outer.local()
    directory = outer.record(0) + inner.record(len(body) - len(inner.local()))
    data = body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory),
                                          len(body), 0)
    assert refusal(data, tmp_path) == "The package has entries that overlap."


def test_content_that_reaches_into_the_directory(tmp_path):
    data = build(Entry(b"a", b"x" * 50, STORED, raw=b"x" * 10, packed_size=50))
    assert refusal(data, tmp_path) == "The package has entries that overlap."


@pytest.mark.parametrize("entry", [
    Entry(b"a", b"x" * 50, crc=1), Entry(b"a", b"x" * 50, STORED, crc=1),
    Entry(b"a", b"x" * 50, size=10), Entry(b"a", b"x" * 50, size=60),
    Entry(b"a", b"", raw=b"\xff" * 50, size=50),
    Entry(b"a", b"x" * 50, raw=deflate(b"x" * 50)[:-3]),
    Entry(b"a", b"x" * 50, raw=b""), Entry(b"a", b"x" * 50, local_name=b"b"),
    Entry(b"a", b"x" * 50, STORED, size=49), Entry(b"a", b"\0" * 1_500_000, size=100),
    Entry(b"a", b"x" * 9, raw=deflate(b"x" * 9) + b"more", size=8),
], ids=range(11))
def test_content_that_is_not_what_it_says(tmp_path, entry):
    assert refusal(build(MAIN, entry), tmp_path) == (
        "Package is damaged: the entry 'a' is not what its description says.")


def test_long_names_are_cut_in_texts(tmp_path):
    assert len(refusal(build(Entry(b"../" + b"n" * 60_000 + b"", b"")), tmp_path)) < 300
    assert len(refusal(build(Entry(b"../" + b"n" * 8000, b"")), tmp_path)) < 300


def test_full_disk_leaves_nothing(tmp_path):
    """A write that fails half-way; the limit of a process stands for the disk's."""
    (tmp_path / "p.zip").write_bytes(build(MAIN, Entry(b"big", os.urandom(100_000))))
    program = (
        "import resource, signal, sys, os\n"
        "from qinling_exec.runtime import package\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    package.unpack(open(sys.argv[1], 'rb'), sys.argv[2], package.Limits())\n"
        "except OSError as error:\n"
        "    print(error.errno, os.path.exists(sys.argv[2]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "p.zip", tmp_path / "code"],
                          capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "27 False\n"


@settings(max_examples=200, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
       cut=st.integers(0, 30))
@example(changes=[], cut=0)
def test_random_damage(tmp_path, changes, cut):
    """Whatever is changed, it is refused, or what is unpacked is below the directory."""
    data = bytearray(build(MAIN, Entry(b"a/", mode=0o40755), Entry(b"a/b", b"y" * 300, DEFLATED),
                           Entry(b"c", b"z" * 20, STORED)))
    for place, value in changes:
        data[place % len(data)] = value
    del data[len(data) - cut:]
    code = tmp_path / "code"
    try:
        package.unpack(io.BytesIO(bytes(data)), str(code), LIMITS)
    except PackageRefused as error:
        assert str(error)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(PackageRefused):
            package.check(io.BytesIO(bytes(data)), LIMITS)
        return
    assert list(tmp_path.iterdir()) == [code]
    for path in sorted(code.rglob("*"), reverse=True):
        assert path.is_file() or path.is_dir()
        assert not path.is_symlink()
        path.unlink() if path.is_file() else path.rmdir()
    code.rmdir()
    package.check(io.BytesIO(bytes(data)), LIMITS)
