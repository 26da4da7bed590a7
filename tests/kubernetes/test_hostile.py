# SPDX-License-Identifier: Apache-2.0
"""Hostile functions in real pods: refused or contained, and nobody else sees any of it.

What they try at the network, at runs beside them and at the worker's secret is in
test_hostile_network, test_hostile_neighbours and test_secret.
"""

from __future__ import annotations

import contextlib
import http.client
import textwrap
import time
from collections.abc import Iterator

import pytest

from tests.functional import processes
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hostile import Workers, attack, neighbour

FILL = textwrap.dedent("""
    for number in range(4):
        with open(f'big{number}', 'wb', 0) as file:
            for _ in range(50):
                file.write(b'x' * (1 << 20))
    time.sleep(600)
    """)


@pytest.fixture(scope="module")
def workers(cluster: Cluster, namespace: str, runtime_image: str) -> Iterator[Workers]:
    started = Workers(cluster, namespace, runtime_image)
    # Begun here and judged last: the kubelet takes half a minute to see it.
    filling = started.start("greedy").begin({"program": FILL}, timeout=600)
    yield started
    filling.close()
    started.must_be_the_same()


@pytest.fixture(autouse=True)
def nobody_else_is_hurt(workers: Workers) -> Iterator[None]:
    """After each test both tenants' workers still work."""
    yield
    workers.must_work()


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
    client = workers.start("bomb")
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


def test_disk_that_is_filled(workers: Workers) -> None:
    """The node takes back the disk: the pod is evicted, alone."""

    def evicted() -> bool:
        status = workers.cluster.get("-n", workers.namespace, "pod", "greedy")["status"]
        return (status.get("phase"), status.get("reason")) == ("Failed", "Evicted")

    assert processes.wait_for(evicted, 100)
