# SPDX-License-Identifier: Apache-2.0
"""Packages: good ones are unpacked, hostile ones are refused whole."""

from __future__ import annotations

import io
import os
import pathlib
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
from tests.unit.runtime.zips import DEFLATED, STORED, Entry, build, deflate

LIMITS = Limits(size=1_000_000, unpacked_size=3_000_000, entries=50, ratio=100)
MAIN = Entry(b"main.py", b"def main():\n    return 1\n")
NOT_A_ZIP = "Package is not a valid ZIP package."


def refusal(data: bytes, tmp_path: pathlib.Path, limits: Limits = LIMITS,
            only_unpacking: bool = False) -> str:
    """Return why a package is refused; both doors refuse it and nothing is left."""
    with pytest.raises(PackageRefused) as unpacking:
        package.unpack(io.BytesIO(data), str(tmp_path / "code"), limits)
    assert list(tmp_path.iterdir()) == []
    if not only_unpacking:
        with pytest.raises(PackageRefused) as checking:
            package.check(io.BytesIO(data), limits)
        assert str(checking.value) == str(unpacking.value)
    return str(unpacking.value)


def unpacked(data: bytes, tmp_path: pathlib.Path, limits: Limits = LIMITS) -> dict[str, bytes]:
    """Return the files of a good package by their path."""
    package.check(io.BytesIO(data), limits)
    code = tmp_path / "code"
    package.unpack(io.BytesIO(data), str(code), limits)
    assert list(tmp_path.iterdir()) == [code]
    return {str(path.relative_to(code)): path.read_bytes()
            for path in code.rglob("*") if path.is_file()}


def test_good_package(tmp_path):
    umask = os.umask(0o077)
    try:
        found = unpacked(build(
            MAIN, Entry(b"a/", mode=0o40700), Entry(b"a/b/c.txt", b"c" * 100_000),
            Entry(b"bin/tool", b"#!/bin/sh\n", STORED, mode=0o104777), Entry(b"empty", b""),
            Entry("größe ✓.txt".encode(), b"x", flags=0x800), comment=b"made by hand",
        ), tmp_path)
    finally:
        os.umask(umask)
    assert found == {"main.py": MAIN.data, "a/b/c.txt": b"c" * 100_000, "empty": b"",
                     "bin/tool": b"#!/bin/sh\n", "größe ✓.txt": b"x"}
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*")}
    assert modes == {"code": 0o755, "main.py": 0o644, "a": 0o755, "b": 0o755, "c.txt": 0o644,
                     "bin": 0o755, "tool": 0o755, "empty": 0o644, "größe ✓.txt": 0o644}


def test_directory_with_a_slash_at_its_end(tmp_path):
    package.unpack(io.BytesIO(build(MAIN)), f"{tmp_path}/code/", LIMITS)
    assert (tmp_path / "code" / "main.py").read_bytes() == MAIN.data


def test_an_existing_directory_is_left_alone(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine").touch()
    with pytest.raises(FileExistsError):
        package.unpack(io.BytesIO(build(MAIN)), str(tmp_path / "code"), LIMITS)
    assert [path.name for path in (tmp_path / "code").iterdir()] == ["mine"]


def test_the_file_stays_open():
    file = io.BytesIO(build(MAIN))
    package.check(file, LIMITS)
    assert not file.closed


@pytest.mark.parametrize("name", [b"./main.py", b"./a/./main.py"])
def test_leading_dots(tmp_path, name):
    data = build(Entry(b"./", mode=0o40755), Entry(name, b"x"))
    assert list(unpacked(data, tmp_path).values()) == [b"x"]


def test_written_by_a_stream(tmp_path):
    """Sizes behind the content, a ZIP64 description of an entry that does not need it."""
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as made:
        with made.open("main.py", "w", force_zip64=True) as file:
            file.write(MAIN.data)
        made.writestr("other.py", "")
    assert unpacked(pipe.data, tmp_path) == {"main.py": MAIN.data, "other.py": b""}


@pytest.mark.parametrize("data", [
    b"", b"P", b"not a zip", b"PK\3\4", b"PK\5\6", b"\0" * 1000, b"PK\5\6" * 1000,
    build(MAIN)[:-1], build(MAIN)[:-22], build(MAIN)[:30], MAIN.local(),
    build(MAIN, directory_size=0xFFFFFF), build(MAIN, directory_offset=1),
    build(MAIN, count=0, directory_size=0, directory_offset=0), build(MAIN, comment_size=9),
    build(MAIN) + b"behind", b"#!/usr/bin/env python3\n" + build(MAIN),
    build(Entry(b"a", b"x", offset=10**6)), build(Entry(b"a", b"x", offset=3)),
    build(MAIN, Entry(b"\xff\xfe", b"x", flags=0x800)),
    build(Entry(b"a", b"x", extra=struct.pack("<HH", 1, 500))),
    build(MAIN, directory_size=len(MAIN.record(0)) + 1, before_end=b"x"),
    build(MAIN, directory_size=len(MAIN.record(0)) - 1,
          directory_offset=len(MAIN.local()) + 1),
], ids=range(23))
def test_not_a_zip(tmp_path, data):
    assert refusal(data, tmp_path).startswith(NOT_A_ZIP[:-1])


@pytest.mark.parametrize("data", [b"", b"not a zip", b"xx", b"\0" * 100_000])
def test_text_of_not_a_zip(tmp_path, data):
    assert refusal(data, tmp_path) == NOT_A_ZIP


@pytest.mark.parametrize("name", [
    b"../evil.py", b"a/../../evil.py", b"a/..", b"/etc/passwd", b"/", b"//a", b"a//b", b"",
    b"..", b"\\evil", b"a\\..\\..\\b", b"C:/evil", b"c:evil", b"C:\\evil", b"main.py\0.txt",
    b"\0", b".", b"n" * 256, b"d/" * 600 + b"f", b"a/../b", b"../", b"/a/",
])
def test_paths(tmp_path, name):
    assert refusal(build(MAIN, Entry(name, b"x", mode=0)), tmp_path).startswith(
        "The package has an entry with a path that is not allowed: ")


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o060666, 0o010666, 0o140666, 0o040755],
                         ids=["link", "character", "block", "fifo", "socket", "folder"])
def test_kinds(tmp_path, mode):
    data = build(MAIN, Entry(b"thing", b"/etc/passwd", mode=mode))
    assert refusal(data, tmp_path) == (
        "The package has an entry that is no file or folder: 'thing'.")


def test_link_and_a_file_through_it(tmp_path):
    outside = tmp_path.parent / "outside.txt"
    refusal(build(Entry(b"up", b"..", mode=0o120777), Entry(b"up/outside.txt", b"x")), tmp_path)
    refusal(build(Entry(b"up/", b"", mode=0o120777), Entry(b"up/outside.txt", b"x")), tmp_path)
    assert not outside.exists()


@pytest.mark.parametrize("flags", [0x1, 0x41, 0x40, 0x2000])
def test_encrypted(tmp_path, flags):
    assert refusal(build(Entry(b"main.py", b"x" * 40, flags=flags)), tmp_path) == (
        "The package is encrypted.")


@pytest.mark.parametrize("method", [1, 6, 9, 12, 14, 93, 99])
def test_methods(tmp_path, method):
    assert "is packed with a method that is not supported" in refusal(
        build(Entry(b"main.py", b"x", method=method)), tmp_path)


def test_patch_data(tmp_path):
    assert "not supported" in refusal(build(Entry(b"main.py", b"x", flags=0x20)), tmp_path)


@pytest.mark.parametrize(("names", "text"), [
    ([b"a.py", b"a.py"], "two entries named 'a.py'"), ([b"a.py", b"./a.py"], "two entries named"),
    ([b"a", b"a/"], "two entries named"), ([b"a/", b"a"], "two entries named"),
    ([b"a", b"a/b"], "a file and a folder named 'a'"),
    ([b"a/b/c", b"a/b"], "a file and a folder named 'a/b'"),
    ([b"a/b/c/d", b"x/y", b"a/b/c"], "a file and a folder named 'a/b/c'"),
])
def test_names_that_clash(tmp_path, names, text):
    entries = [Entry(name, b"" if name.endswith(b"/") else b"x", mode=0) for name in names]
    assert text in refusal(build(*entries), tmp_path)


def test_names_that_do_not_clash(tmp_path):
    names = [b"a/", b"a/", b"A", b"a/b", b"a/B", b"a/bc/d", b"a.b"]
    entries = [Entry(name, b"" if name.endswith(b"/") else b"x", mode=0) for name in names]
    assert set(unpacked(build(*entries), tmp_path)) == {"A", "a/b", "a/B", "a/bc/d", "a.b"}


def test_folder_with_content(tmp_path):
    assert "has content of its own" in refusal(build(MAIN, Entry(b"a/", b"x", mode=0)), tmp_path)


@pytest.mark.parametrize("entries", [(), (Entry(b"a/", mode=0),), (Entry(b"./", mode=0),)])
def test_nothing_in_it(tmp_path, entries):
    assert refusal(build(*entries), tmp_path) == "The package has no files in it."


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
