# SPDX-License-Identifier: Apache-2.0
"""Runs at the same time, where nothing but Landlock keeps them apart, as in a pod."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qinling_exec.runtime import landlock
from tests.functional import processes
from tests.unit.runtime.client import Answer
from tests.unit.runtime.conftest import CONFINED, PROGRAM
from tests.unit.runtime.marks import marked
from tests.unit.runtime.worker import Worker

pytestmark = pytest.mark.skipif(not (landlock.keeps_files() and landlock.keeps_signals()),
                                reason="THIS KERNEL HAS NO LANDLOCK that keeps all of it apart")


@pytest.fixture
def pod() -> Iterator[Worker]:
    """A worker of which no signal gets out, whatever the test shows."""
    worker = Worker(wrap=(*CONFINED[:3], "--pid", "--fork", "--mount-proc", "--kill-child",
                          *CONFINED[3:]), apart=True)
    try:
        worker.specialize(PROGRAM)
        yield worker
    finally:
        worker.process.kill()
        worker.stop()


def run(worker: Worker, program: str) -> object:
    answer = worker.run({"program": textwrap.dedent(program)})
    assert answer["success"], (answer, answer.text)
    return answer["output"]


def neighbour(worker: Worker, program: str) -> tuple[threading.Thread, Answer, Path]:
    """Start a run that has files; return its directory too."""
    found = worker.background({"program": "os.mkdir('sub'); open('mine', 'w').write('x' * 10);"
                                          f" {program}; result = open('mine').read()"})
    assert processes.wait_for(lambda: any(worker.scratch.glob("runs/*/run/mine")), 5)
    (mine,) = worker.scratch.glob("runs/*/run/mine")
    return *found, mine.parent


def test_what_is_in_force_is_told(confined: Worker, bare: Worker) -> None:
    for worker, there in ((confined, True), (bare, False)):
        isolation = worker.ping()["isolation"]
        assert (isolation["private_files"], isolation["private_signals"]) == (there, there)


def test_scratch_in_tmp_is_not_closed() -> None:
    """What runs may write to as a whole can have no part that is closed."""
    worker = Worker(wrap=CONFINED)
    try:
        assert worker.ping()["isolation"]["private_files"] is False
        worker.specialize(PROGRAM)
        assert run(worker, "result = 'tmp' in os.listdir('/')") is True
    finally:
        worker.stop()


def test_files_of_a_neighbour(confined: Worker) -> None:
    """Nothing is to be had, also by one who knows where it is."""
    thread, other, theirs = neighbour(confined, "time.sleep(1)")
    assert run(confined, f"""
        theirs = {str(theirs)!r}
        mine = theirs + '/mine'
        tries = dict(
            list=lambda: os.listdir(theirs), slots=lambda: os.listdir({str(theirs.parents[1])!r}),
            scratch=lambda: os.listdir({str(confined.scratch)!r}),
            read=lambda: open(mine).read(), write=lambda: open(mine, 'w'),
            truncate=lambda: os.truncate(mine, 0), make=lambda: open(theirs + '/new', 'w'),
            directory=lambda: os.mkdir(theirs + '/new'), remove=lambda: os.unlink(mine),
            rmdir=lambda: os.rmdir(theirs + '/sub'), link=lambda: os.link(mine, 'here'),
            rename=lambda: os.rename(mine, 'here'), leave=lambda: os.rename(theirs, 'here'),
            symlink=lambda: os.symlink('/', theirs + '/new'), fifo=lambda: os.mkfifo(mine + '2'),
            execute=lambda: os.execv(mine, [mine]))
        result = allowed(tries)
        """) == []
    thread.join()
    assert other["output"] == "x" * 10


def test_process_of_a_neighbour(confined: Worker, mark: str) -> None:
    """A program that it has started can be looked into by its user, but for this."""
    thread, other, _ = neighbour(confined, f"subprocess.run(['sh', '-c', 'sleep 1; :', {mark!r}])")
    assert processes.wait_for(lambda: len(marked(mark)) == 1, 5)
    assert run(confined, f"""
        result, libc = [], ctypes.CDLL(None)
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                if {mark!r} not in open(f'/proc/{{pid}}/cmdline').read():
                    continue
            except OSError:
                continue
            result.append('found')
            for name in ('environ', 'mem', 'maps', 'fd/1', 'cwd', 'root'):
                for look in (os.listdir, os.readlink, lambda path: open(path, 'rb').read(1)):
                    try:
                        result.append([name, repr(look(f'/proc/{{pid}}/{{name}}'))])
                    except OSError:
                        pass
            if libc.ptrace(16, int(pid), 0, 0) == 0:
                result.append('ptrace')
            for number in (signal.SIGKILL, signal.SIGSTOP):
                try:
                    os.kill(int(pid), number)
                    result.append(number)
                except OSError:
                    pass
        """) == ["found"]
    thread.join()
    assert other["output"] == "x" * 10


@pytest.mark.parametrize(("number", "reason"), [("SIGKILL", "signal"), ("SIGSTOP", "timeout")])
def test_signal_to_all(pod: Worker, number: str, reason: str) -> None:
    """It hits the run that sent it, and what looks after that one; no neighbour."""
    thread, other, _ = neighbour(pod, "time.sleep(1)")
    answer = pod.run({"program": f"os.kill(-1, signal.{number}); time.sleep(60)"}, timeout=0.4)
    assert answer["reason"] == reason
    thread.join()
    assert other["output"] == "x" * 10
    assert pod.run({"program": "result = 1"})["output"] == 1


def test_abstract_sockets_of_a_neighbour(confined: Worker, mark: str) -> None:
    listen = f"server = socket.socket(socket.AF_UNIX); server.bind('\\0{mark}'); server.listen()"
    thread, other, _ = neighbour(confined, listen + "; time.sleep(1)")
    connect = f"""
        with socket.socket(socket.AF_UNIX) as client:
            result = client.connect_ex('\\0{mark}')
        """
    assert run(confined, connect) != 0
    thread.join()
    assert other["output"] == "x" * 10
    assert run(confined, f"{listen}\n{textwrap.dedent(connect)}") == 0


def test_the_package_can_be_read_but_not_changed(confined: Worker) -> None:
    """One run could put its own code in the place of a module that others import later."""
    assert run(confined, """
        code, result = os.path.dirname(sys.modules['main'].__file__), []
        assert 'main.py' in os.listdir(code) and open(code + '/main.py').read()
        for call in (lambda: open(code + '/main.py', 'a'), lambda: os.unlink(code + '/main.py'),
                     lambda: os.rename(code, 'code'), lambda: open(code + '/new.py', 'w')):
            try:
                result.append(repr(call()))
            except OSError:
                pass
        """) == []


@pytest.mark.parametrize("program", [
    "open('/tmp/{mark}', 'w').write('x'); os.rename('/tmp/{mark}', '/tmp/{mark}.new');"
    " os.unlink('/tmp/{mark}.new')",
    "os.makedirs('a/b'); open('a/c', 'w').close(); os.rename('a/c', 'a/b/c');"
    " os.link('a/b/c', 'd'); os.truncate('d', 3); os.rename('a', 'e')",
    "open('/dev/null', 'w').write('x'); open('/dev/urandom', 'rb').read(1)",
    "open('/dev/shm/{mark}', 'w').close(); os.unlink('/dev/shm/{mark}')",
    "[os.listdir(path) for path in ('/proc', '/dev', '/etc', '/usr', '/tmp', '/proc/self/fd')]",
    "subprocess.run('ls /usr/bin | head -1 > /dev/null; kill -9 $$', shell=True)",
    "import multiprocessing; multiprocessing.get_context('fork').Pool(2).map(abs, [1, 2])",
    "child = subprocess.Popen(['sleep', '60']); child.terminate(); child.wait()",
    "m = os.memfd_create('x'); open(f'/proc/self/fd/{{m}}', 'w').close()",
    "t = tempfile.NamedTemporaryFile(); open(t.name).close(); tempfile.TemporaryFile()",
    "import pty; pty.spawn(['true'])",
])
def test_what_functions_do_goes_on_working(confined: Worker, mark: str, program: str) -> None:
    run(confined, program.format(mark=mark))


@pytest.mark.parametrize("trace", [
    "open('../left', 'w')", "os.rename(home, '../left')", "os.chmod('..', 0)",
    "os.chdir('/'); os.rename(home, home + '2'); os.symlink('/tmp', home)",
    "os.chdir('/'); os.rmdir(home); open(home, 'w')", "os.rmdir(home)",
])
def test_nothing_is_left_beside_the_directory_of_a_run(confined: Worker, bare: Worker,
                                                       trace: str) -> None:
    for worker in (confined, bare):
        for _ in range(3):
            assert run(worker, f"""
                home = os.environ['HOME']
                result = os.listdir('..') + os.listdir('.')
                {trace}
                """) == ["run"]


def test_directory_of_a_keeper_that_was_killed(confined: Worker) -> None:
    """It stayed, with all that the run had written, as long as the worker."""
    for _ in range(2):
        answer = confined.run({"program": "open('left', 'w').write('x'); os.mkdir('deep');"
                                          " os.kill(os.getppid(), 9); time.sleep(60)"})
        assert answer["reason"] == "signal"
    for _ in range(2):  # the keeper that takes the place of the last one removes what is there
        run(confined, "os.kill(os.getpid(), 0)")
    assert processes.wait_for(lambda: not list(confined.scratch.glob("runs/*/run/*")), 5)
