# SPDX-License-Identifier: Apache-2.0
"""Packages: good ones are unpacked, hostile ones are refused whole."""

from __future__ import annotations

import io
import os
import struct
import zipfile

import pytest

from qinling_exec.runtime import package
from tests.unit.runtime.doors import LIMITS, MAIN, NOT_A_ZIP, refusal, unpacked
from tests.unit.runtime.zips import STORED, Entry, build


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
