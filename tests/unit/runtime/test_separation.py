# SPDX-License-Identifier: Apache-2.0
"""Nothing of one run is seen in another, and nothing of the worker in any."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
import textwrap
import venv
from collections.abc import Iterator

import pytest

from tests.unit.runtime.client import SECRET
from tests.unit.runtime.conftest import PROGRAM
from tests.unit.runtime.worker import Worker


def run(worker: Worker, program: str) -> object:
    answer = worker.run({"program": textwrap.dedent(program)})
    assert answer["success"], (answer, answer.text)
    return answer["output"]


@pytest.mark.parametrize("path", ["/tmp/left", "/var/tmp/left", "/dev/shm/left", "left",
                                  "$HOME/left", "$TMPDIR/left"])
def test_files(worker: Worker, path: str) -> None:
    program = f"""
        path = os.path.expandvars({path!r})
        result = os.path.exists(path)
        open(path, 'w').write('secret')
        """
    assert [run(worker, program) for _ in range(4)] == [False] * 4
    if path.startswith("/"):
        assert not os.path.exists(path)


def test_files_in_the_scratch_directory(either: Worker) -> None:
    program = """
        result = os.listdir('.')
        assert os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR'] == tempfile.gettempdir()
        os.makedirs('a/b')
        open('a/b/c', 'w').write('x')
        tempfile.mkstemp()
        os.chmod('a/b', 0)
        os.chmod('a', 0o500)
        """
    assert [run(either, program) for _ in range(4)] == [[]] * 4
    for path in (either.scratch / "runs").iterdir():
        assert list(path.rglob("*")) in ([], [path / "run"])  # made for runs to come


LOOK = """
    result = [[path, os.stat(path).st_mode, sorted(os.listdir(path)),
               os.stat(path).st_mtime > 1000, os.listxattr(path)]
              for path in ('/tmp', '/var/tmp', '/dev/shm', os.environ['HOME'], '.')]
    """


@pytest.mark.parametrize("trace", [
    "os.chmod('/tmp', 0o700)", "os.chmod('/dev/shm', 0o755)", "os.chmod('.', 0o500)",
    "os.utime('/var/tmp', (1, 1))", "os.utime('.', (1, 1))", "os.rmdir(os.environ['HOME'])",
    "os.rename(os.environ['HOME'], '/tmp/elsewhere')", "os.symlink('/', '/dev/shm/left')",
    "os.setxattr('/var/tmp', 'user.left', b'x')", "os.mkdir('/var/tmp/left')",
])
def test_traces_of_directories(worker: Worker, trace: str) -> None:
    program = LOOK + f"""
    try:
        {trace}
    except OSError as error:
        assert error.errno == 95, error  # no such attributes on this kernel's file systems
    """
    first, *others = [run(worker, program) for _ in range(5)]
    assert others == [first] * 4


def test_surroundings_without_a_trace_are_kept(fresh: Worker) -> None:
    """Mounting is most of what making a run ready costs."""
    fresh.specialize(PROGRAM)
    if not fresh.ping()["isolation"]["private_tmp"]:
        pytest.skip("there are no namespaces here")
    look = "result = os.stat('/tmp').st_ctime_ns"
    kept = {run(fresh, look) for _ in range(12)}
    changed = {run(fresh, look + "; open('/tmp/x', 'w').close()") for _ in range(12)}
    assert len(kept) <= 3  # one for each slot
    assert len(changed) >= 6


@pytest.mark.parametrize("trace", [
    "os.chmod('.', 0o500)", "os.utime('.', (1, 1))", "os.rmdir(os.environ['HOME'])",
    "os.setxattr('.', 'user.left', b'x')", "os.symlink('/', 'left')", "os.mkdir('left')",
    "os.rename(os.environ['HOME'], os.environ['HOME'] + 2 * 'x')", "os.chmod('..', 0o500)",
    "os.setxattr('..', 'user.left', b'x')", "os.mkdir('../left')",
    "os.rmdir(os.environ['HOME']); os.symlink('/tmp', os.environ['HOME'])",
])
def test_traces_of_the_directory_of_a_worker_without_namespaces(confined: Worker,
                                                                trace: str) -> None:
    program = f"""
    result = [[os.lstat(path).st_mode, sorted(os.listdir(path)), os.stat(path).st_mtime > 1000,
               os.listxattr(path)]
              for path in (os.environ['HOME'], '.', '..')]
    try:
        {trace}
    except OSError as error:
        assert error.errno in (1, 13, 95), error  # not theirs, or no attributes in this place
    """
    first, *others = [run(confined, program) for _ in range(5)]
    assert others == [first] * 4


@pytest.fixture(params=["/tmp", "/var/tmp"])
def python(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Python in a directory that runs have for themselves, which others can't enter."""
    with tempfile.TemporaryDirectory(dir=request.param) as directory:
        venv.create(f"{directory}/venv", symlinks=True)
        yield f"{directory}/venv/bin/python"


def test_python_in_a_shared_directory_can_be_started_but_not_written(python: str) -> None:
    """A run could not start the worker's own Python when that was below /tmp."""
    worker = Worker(python=python)
    try:
        worker.specialize(PROGRAM)
        for _ in range(3):
            assert run(worker, """
                home = os.path.dirname(os.path.dirname(sys.executable))
                code = 'import sys, decimal, sqlite3; print(sys.prefix)'
                said = subprocess.check_output([sys.executable, '-c', code], text=True)
                try:
                    open(home + '/left', 'w')
                    said = 'written'
                except OSError:
                    pass
                result = said.strip() == home == sys.prefix
                """) is True
    finally:
        worker.stop()


def test_modules_environment_and_working_directory(either: Worker) -> None:
    program = """
        result = [counter, 'X' in os.environ, sys.modules['main'].counter, os.umask(0),
                  sys.getrecursionlimit(), sys.modules['json'].loads is None]
        globals()['counter'] = 5
        sys.modules['main'].counter = 5
        os.environ['X'] = '1'
        sys.modules['json'].loads = None
        sys.setrecursionlimit(5000)
        os.chdir('/')
        """
    first = run(either, program)
    assert [run(either, program) for _ in range(3)] == [first] * 3
    assert first[0] == 0  # type: ignore[index]


def test_environment_is_clean(either: Worker) -> None:
    environment = run(either, "result = dict(os.environ)")
    assert isinstance(environment, dict)
    assert set(environment) == {"HOME", "LANG", "PATH", "TMPDIR"}


def test_descriptors(either: Worker) -> None:
    descriptors = run(either, """
        result = {}
        for name in os.listdir('/proc/self/fd'):
            try:
                result[name] = os.readlink('/proc/self/fd/' + name)
            except OSError:
                pass
        """)
    assert isinstance(descriptors, dict)
    assert descriptors.pop("0") == "/dev/null"
    log, errors = descriptors.pop("1"), descriptors.pop("2")
    assert log == errors
    assert log.startswith("pipe:")
    (rest,) = descriptors.values()
    assert rest.startswith("pipe:")


def test_subprocesses_get_no_descriptor_of_the_worker(either: Worker) -> None:
    assert run(either, """
        result = subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True,
                                close_fds=False).stdout.split()
        """) == ["0", "1", "2", "3"]  # ls itself has 3


def test_random_numbers_differ(either: Worker) -> None:
    program = "import random, uuid; result = [random.random(), str(uuid.uuid4())]"
    first, second = run(either, program), run(either, program)
    assert isinstance(first, list) and isinstance(second, list)
    assert not set(first) & set(second)


def test_shared_memory_of_system_v(worker: Worker) -> None:
    program = """
        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.shmget(12345, 4096, 0o600)
        libc.shmget(12345, 4096, 0o1600)
        """
    assert [run(worker, program) for _ in range(3)] == [-1] * 3


def test_processes_of_others_can_not_be_seen(worker: Worker) -> None:
    if not worker.ping()["isolation"]["private_proc"]:
        pytest.skip("/proc can't be private here")
    assert run(worker, """
        pids = {int(name) for name in os.listdir('/proc') if name.isdigit()}
        result = sorted(pids - {1, os.getpid()})
        """) == []


@pytest.mark.parametrize("what", ["environ", "mem", "fd", "cwd"])
def test_keeper_can_not_be_looked_into(worker: Worker, what: str) -> None:
    assert run(worker, f"""
        result = ''
        for parent in {{1, os.getppid()}}:
            path = f'/proc/{{parent}}/{what}'
            for look in (os.listdir, os.readlink, lambda path: open(path, 'rb').read(1)):
                try:
                    result += repr(look(path))
                except OSError:
                    pass
        """) == ""


def test_no_capability_and_no_new_privilege(worker: Worker) -> None:
    status = run(worker, "result = open('/proc/self/status').read()")
    fields = dict(line.split(":", 1) for line in str(status).splitlines())
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(fields[name], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"


@pytest.mark.parametrize("program", [
    "ctypes.CDLL(None, use_errno=True).umount2(b'/tmp', 2)",
    "ctypes.CDLL(None, use_errno=True).mount(b'x', b'/tmp', b'tmpfs', 0, None)",
    "ctypes.CDLL(None, use_errno=True).setuid(0)"])
def test_privileged_calls_fail(worker: Worker, program: str) -> None:
    assert run(worker, f"result = {program}") == -1


def test_user_is_nobody(worker: Worker) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can change to another user")
    ids = run(worker, "result = [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]")
    assert ids == [1_000_000_000 + worker.process.pid] * 4
    with contextlib.suppress(FileNotFoundError):
        pathlib.Path("/tmp/qinling-private").unlink()
    secret = worker.directory / "private"
    secret.write_text("x")
    secret.chmod(0o600)
    assert run(worker, f"""
        try:
            result = open({str(secret)!r}).read()
        except OSError as error:
            result = type(error).__name__
        """) in ("PermissionError", "FileNotFoundError")


def test_secret_is_nowhere(either: Worker) -> None:
    assert run(either, f"""
        import gc
        found = []
        for path in ('/proc/self/environ', '/proc/self/cmdline'):
            try:
                found.append(open(path, 'rb').read())
            except OSError:
                pass
        result = [{SECRET[::-1]!r}[::-1].encode() in data for data in found]
        """) in ([False], [False, False], [])


def test_run_made_ahead_is_not_touched_by_the_one_before(either: Worker) -> None:
    thread, other = either.background({"program": "time.sleep(0.4); result = os.listdir('.')"})
    run(either, "open('x', 'w').write('x')")
    thread.join()
    assert other["output"] == []
