# SPDX-License-Identifier: Apache-2.0
"""Hostile functions in real pods: refused or contained, and nobody else sees any of it.

What they try at the worker's secret is in test_secret.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional import processes
from tests.kubernetes import pods, policies
from tests.kubernetes.cluster import Cluster
from tests.unit.runtime.client import Answer, Client
from tests.unit.runtime.conftest import PROGRAM

_SIZE = 48 << 20
FILL = textwrap.dedent("""
    for number in range(4):
        with open(f'big{number}', 'wb', 0) as file:
            for _ in range(50):
                file.write(b'x' * (1 << 20))
    time.sleep(600)
    """)


class Workers:
    """A hostile tenant's worker, another tenant's, and one that no policy holds."""

    def __init__(self, cluster: Cluster, walled: str, open_to_all: str, image: str) -> None:
        self.cluster, self.namespace, self.image = cluster, walled, image
        self.hostile = self.start(walled, "hostile")
        self.other = self.start(walled, "other")
        self.free = self.start(open_to_all, "free")
        # Begun here and judged last: the kubelet takes half a minute to see it.
        self._filling = self.start(walled, "greedy").begin({"program": FILL}, timeout=600)

    def close(self) -> None:
        self._filling.close()

    def start(self, namespace: str, name: str, **labels: str) -> Client:
        client = pods.start(self.cluster, namespace, pods.describe(name, self.image, **labels))
        client.specialize(PROGRAM, memory_size=_SIZE, limits={"log_size": 100_000})
        return client

    def state(self, name: str) -> dict[str, Any]:
        status = self.cluster.get("-n", self.namespace, "pod", name)["status"]
        container: dict[str, Any] = status["containerStatuses"][0]
        return container


@pytest.fixture(scope="module")
def workers(cluster: Cluster, namespace: str, runtime_image: str) -> Iterator[Workers]:
    beside = cluster.make_namespace()
    try:
        cluster.apply(*policies.of_workers(namespace, beside, cluster.host))
        started = Workers(cluster, namespace, beside, runtime_image)
        yield started
        started.close()
        for name in ("hostile", "other"):
            assert started.state(name)["restartCount"] == 0
    finally:
        cluster.delete_namespace(beside)


@pytest.fixture(autouse=True)
def nobody_else_is_hurt(workers: Workers) -> Iterator[None]:
    """After each test both tenants' workers still work."""
    yield
    for name in ("hostile", "other"):
        client: Client = getattr(workers, name)
        assert processes.wait_for(lambda client=client: client.ping()["running"] == 0, 20)
        assert client.run({"program": "result = 'well'"}, timeout=20)["output"] == "well"


def attack(client: Client, program: str, timeout: float = 20.0) -> Answer:
    return client.run({"program": textwrap.dedent(program)}, timeout=timeout)


def neighbour(client: Client, seconds: float) -> tuple[threading.Thread, Answer]:
    """Start a peaceful run in the same worker; it is there when this returns."""
    before = client.ping()["running"]
    found = client.background(
        {"program": f"open('mine', 'w').write('x' * 10); time.sleep({seconds});"
                    " result = open('mine').read()"}, timeout=60)
    assert processes.wait_for(lambda: client.ping()["running"] > before, 10)
    return found


CONNECT = """
    result = []
    for host, port in {targets!r}:
        with socket.socket() as client:
            client.settimeout(2)
            try:
                client.connect((host, port))
                result.append([host, port])
            except OSError:
                pass
    """


def reached(client: Client, targets: list[tuple[str, int]]) -> list[list[Any]]:
    answer = attack(client, CONNECT.format(targets=targets), 60)
    assert answer["success"], answer
    return list(answer["output"])


@pytest.fixture(scope="module")
def targets(cluster: Cluster, workers: Workers) -> Iterator[list[tuple[str, int]]]:
    """What really listens: the API server, the kubelet, other pods, a server of this machine."""
    node = cluster.get("nodes")["items"][0]["status"]["addresses"][0]["address"]
    service = cluster.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    with socket.create_server((cluster.host, 0)) as here:
        yield [(service, 443), (node, 6443), (node, 10250),
               (workers.other.path.split(":")[0], 9090), (workers.free.path.split(":")[0], 9090),
               (cluster.host, here.getsockname()[1])]


def test_nothing_can_be_reached(workers: Workers, targets: list[tuple[str, int]]) -> None:
    assert reached(workers.hostile, targets) == []


def test_what_is_not_reached_is_there(workers: Workers, targets: list[tuple[str, int]]) -> None:
    """The same, from where no policy holds: all but the other tenant's worker."""
    assert reached(workers.free, targets) == [
        list(target) for target in targets if target[0] != workers.other.path.split(":")[0]]


@pytest.mark.parametrize("address", [("169.254.169.254", 80), ("192.0.2.1", 443)])
def test_metadata_and_internet(workers: Workers, address: tuple[str, int]) -> None:
    """Nothing listens there in a test: this holds the shipped policy against it as well."""
    rule = policies.internet("any", "any", "0.0.0.0/0", shipped=True)["spec"]["egress"][0]
    assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"]
    answer = attack(workers.hostile, f"""
        with socket.socket() as client:
            client.settimeout(5)
            try:
                client.connect({address!r})
            except OSError as error:
                result = type(error).__name__
        """)
    assert "Error" in str(answer["output"])


def test_no_packet_of_another_kind(workers: Workers) -> None:
    answer = attack(workers.hostile, """
        result = []
        for kind, protocol in ((socket.SOCK_RAW, socket.IPPROTO_ICMP),
                               (socket.SOCK_RAW, socket.IPPROTO_RAW)):
            try:
                socket.socket(socket.AF_INET, kind, protocol)
                result.append(kind)
            except OSError:
                pass
        try:
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            result.append('packet')
        except OSError:
            pass
        """)
    assert answer["output"] == []


def test_way_out_that_an_operator_opens(workers: Workers,
                                        targets: list[tuple[str, int]]) -> None:
    """Of one runtime, to what the policy names, and nothing more."""
    here = targets[-1]
    workers.cluster.apply(policies.internet(workers.namespace, "opened", f"{here[0]}/32"))
    client = workers.start(workers.namespace, "opened", **{"qinling-exec/runtime": "opened"})
    assert reached(client, targets) == [list(here)]
    assert reached(workers.hostile, [here]) == []


def test_memory_that_is_not_there_fails_alone(workers: Workers) -> None:
    thread, other = neighbour(workers.hostile, 2)
    answer = attack(workers.hostile, "result = len(bytearray(2 << 30))")
    assert (answer["success"], answer["reason"]) == (False, "memory")
    thread.join()
    assert other["output"] == "x" * 10


def test_many_processes_that_take_memory(workers: Workers) -> None:
    """Each may have its own: together they meet the pod's limit; the worker itself stays."""
    answer = attack(workers.other, """
        for _ in range(12):
            if os.fork() == 0:
                block = bytearray(os.urandom(1 << 20) * 30)
                time.sleep(60)
        time.sleep(60)
        """, 8)
    assert answer["success"] is False
    assert answer["reason"] in ("memory", "timeout", "signal"), answer


def test_fork_bomb(workers: Workers) -> None:
    """It may take its own worker with it: the limits of processes and memory are the pod's."""
    client = workers.start(workers.namespace, "bomb")
    with contextlib.suppress(http.client.HTTPException, OSError, AssertionError):
        answer = attack(client, """
            while True:
                try:
                    os.fork()
                except OSError:
                    time.sleep(0.01)
            """, 4)
        assert answer["success"] is False
    peaceful = attack(workers.hostile, "result = [os.wait() for _ in range(20) if os.fork() == 0"
                                       " and os._exit(0)]")
    assert peaceful["success"], peaceful


def test_output_without_end(workers: Workers) -> None:
    answer = attack(workers.hostile, """
        block = b'x' * (1 << 20)
        for _ in range(10 << 10):
            os.write(1, block)
        """, 5)
    assert answer["reason"] in (None, "timeout")
    assert answer["log_truncated"] is True
    assert len(answer.log) < 101_000


def test_file_without_end(workers: Workers) -> None:
    """The limit of a file's size, and below it what the worker's emptyDir has."""
    answer = attack(workers.hostile, """
        with open('big', 'wb', 0) as file:
            for _ in range(40):
                file.write(b'x' * (1 << 20))
        result = os.path.getsize('big')
        """)
    assert answer["output"] == 40 << 20  # within the limits
    answer = attack(workers.hostile, "result = [os.path.exists('big'), os.listdir('/tmp')]")
    assert answer["output"][0] is False


def test_kill_everything(workers: Workers) -> None:
    """What looks after runs dies, with the runs of this worker; the worker does not."""
    answer = attack(workers.hostile, "os.kill(-1, signal.SIGKILL); time.sleep(30)", 10)
    assert answer["success"] is False


def test_stop_everything(workers: Workers) -> None:
    """What looks after runs goes on when the run that stopped it has ended."""
    answer = attack(workers.hostile, "os.kill(-1, signal.SIGSTOP); time.sleep(30)", 2)
    assert answer["reason"] == "timeout"
    for _ in range(3):
        assert attack(workers.hostile, "result = 'went on'")["output"] == "went on"


def test_forged_reply_of_another_run(workers: Workers) -> None:
    thread, other = neighbour(workers.hostile, 2)
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
    thread.join()
    assert other["output"] == "x" * 10


@pytest.mark.parametrize("text", [
    '{"success": true, "output": "x", "duration": -1, "reason": null}', "not json", "[]", "{}",
    '{"success": true, "output": NaN, "duration": 0}'])
def test_forged_reply_of_its_own(workers: Workers, text: str) -> None:
    """Writing to the channel of the result is no success, unless it says what a return would."""
    answer = attack(workers.hostile, f"""
        for number in range(3, 64):
            try:
                os.write(number, {text!r}.encode())
            except OSError:
                pass
        os._exit(0)
        """)
    assert (answer["success"], answer["reason"]) == (False, "exit")


@pytest.mark.parametrize("way", [
    "os.setsid(); os.fork() and os._exit(0)",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid(); os.fork() and os._exit(0);"
    " os.fork() and os._exit(0)",
    "os.setpgid(0, 0)",
])
def test_nothing_outlives_its_run(workers: Workers, way: str) -> None:
    answer = attack(workers.hostile, f"""
        if os.fork() == 0:
            {way}
            open('/tmp/outlives', 'w').write(str(os.getpid()))
            time.sleep(60)
            os._exit(0)
        while not os.path.exists('/tmp/outlives') or not open('/tmp/outlives').read():
            time.sleep(0.01)
        result = int(open('/tmp/outlives').read())
        """)
    assert answer["success"], answer
    began = time.monotonic()
    answer = attack(workers.hostile, f"result = os.path.exists('/proc/{answer['output']}')")
    assert answer["output"] is False
    assert time.monotonic() - began < 30


def test_files_of_runs_before(workers: Workers) -> None:
    attack(workers.hostile, "open('mine', 'w').write('private')")
    answer = attack(workers.hostile, """
        result = []
        for folder, _, names in os.walk('/tmp'):
            for name in names:
                try:
                    if 'private' in open(os.path.join(folder, name), errors='replace').read():
                        result.append(name)
                except OSError:
                    pass
        """)
    assert answer["output"] == []


def test_disk_that_is_filled(workers: Workers) -> None:
    """The node takes back the disk: the pod is evicted, alone."""

    def evicted() -> bool:
        status = workers.cluster.get("-n", workers.namespace, "pod", "greedy")["status"]
        return (status.get("phase"), status.get("reason")) == ("Failed", "Evicted")

    assert processes.wait_for(evicted, 100)
