# SPDX-License-Identifier: Apache-2.0
"""The store of packages in files: whole or not at all, and private."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from qinling_exec import exceptions
from qinling_exec.catalogue.packages import FileStore

DATA = os.urandom(200_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path):
    return FileStore(str(tmp_path / "data" / "packages"))


def files(tmp_path):
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")
                  if path.is_file())


def received(store, data=DATA):
    incoming = store.receive()
    for place in range(0, len(data), 60_000):
        incoming.write(data[place:place + 60_000])
    return incoming


def test_keep_and_open(store, tmp_path):
    incoming = received(store)
    assert (incoming.size, incoming.sha256) == (len(DATA), SHA256)
    assert incoming.md5 == hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    assert incoming.read().read() == DATA
    store.keep(incoming)
    incoming.discard()
    assert files(tmp_path) == [f"data/packages/{SHA256[:2]}/{SHA256}.zip"]
    with store.open(SHA256) as file:
        assert file.read() == DATA


def test_modes(store, tmp_path):
    umask = os.umask(0)
    try:
        store.keep(received(store))
    finally:
        os.umask(umask)
    packages = tmp_path / "data" / "packages"
    for path in (packages, *packages.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_keep_twice(store, tmp_path):
    store.keep(received(store))
    with store.open(SHA256) as reader:
        store.keep(received(store))
        assert reader.read() == DATA
    assert len(files(tmp_path)) == 1


def test_discard(store, tmp_path):
    incoming = received(store)
    assert len(files(tmp_path)) == 1
    incoming.discard()
    incoming.discard()
    assert files(tmp_path) == []


def test_discard_closes_the_file(store):
    before = len(os.listdir("/proc/self/fd"))
    received(store).discard()
    kept = received(store)
    store.keep(kept)
    assert len(os.listdir("/proc/self/fd")) == before


def test_remove(store, tmp_path):
    store.keep(received(store))
    with store.open(SHA256) as reader:
        store.remove(SHA256)
        store.remove(SHA256)
        assert reader.read() == DATA
    with pytest.raises(exceptions.NotFound):
        store.open(SHA256)
    assert [path.name for path in (tmp_path / "data" / "packages").iterdir()] == ["tmp"]


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "0" * 63, "0" * 65, "G" * 64,
                                    f"{'0' * 64}\n", "0" * 64])
def test_open_nothing(store, sha256):
    with pytest.raises(exceptions.NotFound):
        store.open(sha256)


def test_folders_that_vanish_meanwhile(store, monkeypatch):
    """Another process removes a package of the same folder between its making and the rename."""
    replace, vanished = os.replace, []

    def late(source, target):
        if not vanished:
            vanished.append(target)
            pathlib.Path(target).parent.rmdir()
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    store.keep(received(store))
    assert vanished
    store.open(SHA256).close()


def test_many_at_once(store, tmp_path):
    """Every thread stores, reads and removes packages whose folders collide."""
    problems = []

    def work(number):
        try:
            for turn in range(20):
                data = b"%d %d" % (number, turn)
                incoming = received(store, data)
                sha256 = incoming.sha256
                store.keep(incoming)
                with store.open(sha256) as file:
                    assert file.read() == data
                store.remove(sha256)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert files(tmp_path) == []


def test_what_a_killed_process_left_is_swept(tmp_path):
    FileStore(str(tmp_path)).receive().discard()
    for name, age in (("old", 7200), ("new", 60)):
        path = tmp_path / "tmp" / name
        path.write_bytes(b"half a pack")
        os.utime(path, (time.time() - age,) * 2)
    store = FileStore(str(tmp_path))
    store.receive().discard()
    assert files(tmp_path) == ["tmp/new"]
    store.sweep_temporary(0)
    assert files(tmp_path) == []


def test_sweeping_nothing(store):
    store.sweep_temporary(0)


def test_no_room(tmp_path):
    """The limit of a process's files stands for a full disk, in each of the ways to notice it."""
    program = (
        "import resource, sys\n"
        "from qinling_exec import exceptions\n"
        "from qinling_exec.catalogue.packages import FileStore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "for size, piece in ((200_000, 200_000), (50_100, 1000)):\n"
        "    incoming = FileStore(sys.argv[1]).receive()\n"
        "    try:\n"
        "        for place in range(0, size, piece):\n"
        "            incoming.write(b'x' * piece)\n"
        "        FileStore(sys.argv[1]).keep(incoming)\n"
        "    except exceptions.InsufficientStorage as error:\n"
        "        print(error.code)\n"
        "    incoming.discard()\n"
    )
    # What coverage writes when a process ends would find no room either.
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True,
                          text=True, timeout=60, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("507\n507\n", "")
    assert files(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", path],
                             capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_full_disk(small_disk):
    store = FileStore(str(small_disk / "packages"))
    first = received(store, DATA[:60_000])
    store.keep(first)
    with pytest.raises(exceptions.InsufficientStorage):
        second = store.receive()
        try:
            second.write(DATA)
            second.read()
        finally:
            second.discard()
    assert len(files(small_disk)) == 1
    with store.open(first.sha256) as file:
        assert file.read() == DATA[:60_000]


def test_no_room_for_a_file_at_all(store, monkeypatch):
    def full(**_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(exceptions.InsufficientStorage):
        store.receive()


def test_other_trouble_is_not_taken_for_a_full_disk(store, monkeypatch):
    def broken(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    incoming = received(store)
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        store.keep(incoming)
    incoming.discard()
