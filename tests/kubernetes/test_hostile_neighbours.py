# SPDX-License-Identifier: Apache-2.0
"""What hostile runs in real pods can do to others of their worker: before, beside, after them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hostile import Workers, attack, neighbour
from tests.unit.runtime.client import Answer


@pytest.fixture(scope="module")
def workers(cluster: Cluster, namespace: str, runtime_image: str) -> Iterator[Workers]:
    started = Workers(cluster, namespace, runtime_image)
    isolation = started.hostile.ping()["isolation"]
    if not (isolation["private_files"] and isolation["private_signals"]):
        pytest.skip("THE NODES HAVE NO LANDLOCK: runs of one worker can't be kept apart there")
    yield started
    started.must_be_the_same()


@pytest.fixture(autouse=True)
def nobody_else_is_hurt(workers: Workers) -> Iterator[None]:
    """After each test both tenants' workers still work."""
    yield
    workers.must_work()


def unharmed(found: tuple[threading.Thread, Answer]) -> None:
    found[0].join()
    assert found[1].get("output") == "x" * 10, found[1]


def test_kill_everything(workers: Workers) -> None:
    """It hits the run that sent it, and what looks after that one."""
    beside = neighbour(workers.hostile, 3)
    answer = attack(workers.hostile, "os.kill(-1, signal.SIGKILL); time.sleep(30)", 10)
    assert (answer["success"], answer["reason"]) == (False, "signal")
    unharmed(beside)


def test_stop_everything(workers: Workers) -> None:
    """Neighbours go on at once, and what looks after the run when that has ended."""
    beside = neighbour(workers.hostile, 1)
    answer = attack(workers.hostile, "os.kill(-1, signal.SIGSTOP); time.sleep(30)", 3)
    assert answer["reason"] == "timeout"
    beside[0].join(0.5)
    assert not beside[0].is_alive(), "the neighbour was stopped"
    unharmed(beside)
    for _ in range(3):
        assert attack(workers.hostile, "result = 'went on'")["output"] == "went on"


def test_signals_to_every_process_by_its_id(workers: Workers) -> None:
    beside = neighbour(workers.hostile, 2)
    answer = attack(workers.hostile, """
        result = 0
        spared = {os.getpid(), os.getppid()}
        for pid in set(map(int, filter(str.isdigit, os.listdir('/proc')))) - spared:
            for number in (signal.SIGSTOP, signal.SIGKILL, 0):
                try:
                    os.kill(pid, number)
                    result += 1
                except OSError:
                    pass
        """)
    assert answer["output"] == 0
    unharmed(beside)


@pytest.fixture
def beside(workers: Workers) -> Iterator[str]:
    """The directory of a neighbour, which is not harmed."""
    found = neighbour(workers.hostile, 3, "os.mkdir('/tmp/' + os.getcwd().replace('/', ':'))")
    (told,) = attack(workers.hostile, "time.sleep(0.5); result = os.listdir('/tmp')")["output"]
    yield told.replace(":", "/")
    unharmed(found)


def test_files_of_a_neighbour(workers: Workers, beside: str) -> None:
    """Nothing is to be had, also by one who was told where it is; nor is it seen from anywhere."""
    answer = attack(workers.hostile, f"""
        theirs = {beside!r}
        mine, up = theirs + '/mine', os.path.dirname
        tries = dict(
            list=lambda: os.listdir(theirs), slot=lambda: os.listdir(up(theirs)),
            slots=lambda: os.listdir(up(up(theirs))), top=lambda: os.listdir('/qinling'),
            read=lambda: open(mine).read(), write=lambda: open(mine, 'w'),
            truncate=lambda: os.truncate(mine, 0), make=lambda: open(theirs + '/new', 'w'),
            remove=lambda: os.unlink(mine), link=lambda: os.link(mine, 'here'),
            rename=lambda: os.rename(mine, 'here'), leave=lambda: os.rename(theirs, 'here'))
        for pid in filter(str.isdigit, os.listdir('/proc')):
            if int(pid) != os.getpid():
                tries[pid] = lambda pid=pid: os.listdir(f'/proc/{{pid}}/cwd')
        result = allowed(tries)
        """)
    assert answer["output"] == [], answer


def test_directories_of_the_worker_that_are_closed(workers: Workers) -> None:
    """No later run could be made then: they belong to the user of the runs."""
    answer = attack(workers.hostile, """
        code = os.path.dirname(sys.modules['main'].__file__)
        runs = os.path.dirname(os.path.dirname(os.getcwd()))
        for path in (code, '..', runs, os.path.dirname(runs)):
            os.chmod(path, 0)
        """)
    assert answer["success"], answer
    for _ in range(4):
        answer = attack(workers.hostile, """
            with open('x', 'w') as file:
                result = file.write(open(sys.modules['main'].__file__).read()[:1])
            """)
        assert answer["output"] == 1, answer


def test_forged_reply_of_another_run(workers: Workers) -> None:
    beside = neighbour(workers.hostile, 2)
    answer = attack(workers.hostile, """
        result = []
        forged = json.dumps({'success': True, 'output': 'forged', 'duration': 0}).encode()
        for pid in filter(str.isdigit, os.listdir('/proc')):
            if int(pid) == os.getpid():
                continue
            try:
                for name in os.listdir(f'/proc/{pid}/fd'):
                    try:
                        number = os.open(f'/proc/{pid}/fd/{name}', os.O_WRONLY | os.O_NONBLOCK)
                        os.write(number, forged)
                        result.append([pid, name])
                    except OSError:
                        pass
            except OSError:
                pass
        """)
    assert answer["output"] == []
    unharmed(beside)


def test_files_of_runs_before(workers: Workers) -> None:
    attack(workers.hostile, "open('mine', 'w').write('private')")
    answer = attack(workers.hostile, """
        result = []
        for top in ('/tmp', '/qinling', '/dev/shm', '..'):
            for folder, _, names in os.walk(top):
                for name in names:
                    try:
                        if 'private' in open(os.path.join(folder, name), errors='replace').read():
                            result.append(name)
                    except OSError:
                        pass
        """)
    assert answer["output"] == []
