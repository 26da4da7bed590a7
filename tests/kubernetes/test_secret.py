# SPDX-License-Identifier: Apache-2.0
"""The secret of a worker in a real pod is out of reach of what runs there.

A run has the server's user id: nothing that ``restricted`` allows could give it another one.
"""

from __future__ import annotations

import pytest

from tests.kubernetes import hostile, pods
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hostile import output_of as run
from tests.unit.runtime.client import SECRET, Client
from tests.unit.runtime.conftest import PROGRAM


@pytest.fixture(scope="module")
def worker(cluster: Cluster, namespace: str, runtime_image: str) -> Client:
    """A worker that runs any program, in a pod."""
    client = pods.start(cluster, namespace, pods.describe("worker", runtime_image))
    client.specialize(PROGRAM)
    return client


def test_worker_is_as_confined_as_it_is_meant_to_be(worker: Client) -> None:
    """Else the tests below would show nothing: a run has the same user, and sees the server."""
    status = str(run(worker, "result = open('/proc/1/status').read()"))
    hostile.must_be_confined(status)
    assert run(worker, "result = [os.getuid(), open('/proc/1/cmdline').read()]") == [
        65532, "python3\0-m\0qinling_exec.runtime\0--listen\x000.0.0.0:9090\0--alone\0"]
    assert worker.ping()["pid"] == 1


@pytest.mark.parametrize("path", hostile.OF_A_SERVER)
def test_proc_of_the_server_is_closed(worker: Client, path: str) -> None:
    assert run(worker, f"""
        result = []
        for look in (os.listdir, os.readlink, lambda path: open(path, 'rb').read(1),
                     lambda path: open(path, 'r+b')):
            try:
                result.append(repr(look('/proc/1/{path}')))
            except (PermissionError, NotADirectoryError, FileNotFoundError, IsADirectoryError):
                pass
            except OSError as error:
                if error.errno != 22:  # EINVAL: no link
                    result.append(repr(error))
        """) == []


def test_server_can_not_be_traced(worker: Client) -> None:
    """With ptrace (attach, seize) and the calls that read and write another's memory or files."""
    assert run(worker, """
        libc = ctypes.CDLL(None, use_errno=True)
        result = []
        def call(*arguments):
            ctypes.set_errno(0)
            result.append([libc.syscall(*arguments), ctypes.get_errno()])
        buffer = ctypes.create_string_buffer(8)
        class Vector(ctypes.Structure):
            _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
        near = Vector(ctypes.addressof(buffer), 8)
        far = Vector(0x400000, 8)
        call(101, 16, 1, 0, 0)           # PTRACE_ATTACH
        call(101, 0x4206, 1, 0, 0)       # PTRACE_SEIZE
        call(310, 1, ctypes.byref(near), 1, ctypes.byref(far), 1, 0)   # process_vm_readv
        call(311, 1, ctypes.byref(near), 1, ctypes.byref(far), 1, 0)   # process_vm_writev
        call(312, 1, os.getpid(), 0, 3, 3)                             # kcmp
        handle = os.pidfd_open(1)
        call(438, handle, 3, 0)          # pidfd_getfd
        """) == [[-1, 1]] * 6  # EPERM


def test_secret_is_in_no_process_and_no_file_that_can_be_read(worker: Client) -> None:
    """All memory and all files that a run may read are searched."""
    found = run(worker, f"""
        wanted = {SECRET[::-1]!r}[::-1].encode()
        result, searched = [], [0, 0]
        for pid in filter(str.isdigit, os.listdir('/proc')):
            if int(pid) == os.getpid():
                continue
            for name in ('environ', 'cmdline'):
                try:
                    data = open(f'/proc/{{pid}}/{{name}}', 'rb').read()
                    if wanted in data:
                        result.append([pid, name])
                except OSError:
                    pass
            try:
                lines = open(f'/proc/{{pid}}/maps').readlines()
                memory = open(f'/proc/{{pid}}/mem', 'rb', 0)
            except OSError:
                continue
            searched[0] += 1
            for line in lines:
                first, last = (int(part, 16) for part in line.split()[0].split('-'))
                try:
                    memory.seek(first)
                    if wanted in memory.read(last - first):
                        result.append([pid, line])
                except (OSError, OverflowError, ValueError):
                    pass
        for top in {hostile.SEARCHED}:
            for folder, _, names in os.walk(top):
                for name in names:
                    path = os.path.join(folder, name)
                    if not os.path.isfile(path):
                        continue
                    try:
                        if wanted in open(path, 'rb').read(1 << 24):
                            result.append(path)
                        searched[1] += 1
                    except OSError:
                        pass
        assert searched[1] > 10, searched
        """)
    assert found == []


def test_own_door_is_closed_without_the_secret(worker: Client) -> None:
    """A run may call its own worker; only ping is answered."""
    assert run(worker, """
        import http.client
        result = []
        for method, path in (('GET', '/ping'), ('POST', '/execute'), ('POST', '/specialize'),
                             ('POST', '/cancel/x')):
            connection = http.client.HTTPConnection('127.0.0.1', 9090)
            connection.request(method, path, headers={'Authorization': 'Bearer guess'})
            result.append(connection.getresponse().status)
        """) == [200, 401, 401, 401]


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGKILL", "SIGSTOP", "SIGHUP",
                                    "SIGSEGV", "SIGUSR1", "SIGCHLD"])
def test_server_outlives_signals_of_its_runs(worker: Client, number: str) -> None:
    assert run(worker, f"""
        try:
            os.kill(1, signal.{number})
        except PermissionError:  # of Landlock, where there is one
            pass
        result = 'tried'
        """) == "tried"
    assert run(worker, "result = 'next'") == "next"


def test_no_token_and_no_service_in_the_environment(worker: Client) -> None:
    assert run(worker, f"""
        result = [sorted(os.environ), [path for path in {hostile.TOKENS} if os.path.exists(path)]]
        """) == [["HOME", "LANG", "PATH", "TMPDIR"], []]


def test_root_is_read_only(worker: Client) -> None:
    assert run(worker, hostile.WRITE) == []


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "."])
def test_a_run_finds_nothing_of_those_before_it(worker: Client, folder: str) -> None:
    program = f"""
        result = sorted(set(os.listdir({folder!r})))
        os.makedirs({folder!r} + '/left/behind')
        open({folder!r} + '/left/file', 'w').write('secret')
        """
    first, second = run(worker, program), run(worker, program)
    assert first == second
    assert "left" not in str(first)
