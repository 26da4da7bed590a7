# SPDX-License-Identifier: Apache-2.0
"""What a hostile program reaches that a user brings as an image: nothing.

Its image says nothing of a user, which means root; it is Python, and what it tries are arguments.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.functional import processes
from tests.functional.deployment import Deployment
from tests.kubernetes import hostile, pods, policies
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.site import PATIENCE
from tests.unit.runtime.client import Client
from tests.unit.runtime.conftest import PROGRAM

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def beside(cluster: Cluster, namespace: str, reachable: None) -> Iterator[str]:
    """A namespace where no policy holds; those of the project hold in the module's."""
    name = cluster.make_namespace()
    try:
        cluster.apply(*policies.of_workers(namespace, name, cluster.host))
        yield name
    finally:
        cluster.delete_namespace(name)


@pytest.fixture(scope="module")
def deployment(deploy: Callable[..., Deployment], beside: str) -> Deployment:
    return deploy(kubernetes={"pool_replicas": 0}, settings={"limits": {"max_cpu": 1000}})


class Others(NamedTuple):
    """Workers of others: beside the hostile program, and where no policy holds."""

    near: Client
    free: Client


@pytest.fixture(scope="module")
def others(cluster: Cluster, namespace: str, beside: str, deployment: Deployment,
           runtime_image: str) -> Iterator[Others]:
    found = Others(*(pods.start(cluster, where, pods.describe("other", runtime_image))
                     for where in (namespace, beside)))
    for client in found:
        client.specialize(PROGRAM)
    yield found
    cluster.kubectl("-n", namespace, "delete", "pod", "other")


@pytest.fixture(scope="module")
def attack(deployment: Deployment, others: Others, python_image: str,
           ) -> Iterator[Callable[[str], Any]]:
    """Run a program as an execution; return its ``result``. The others still work afterwards."""
    api = deployment.api()
    function = api.ok("POST", "/v1/functions", 201, json={
        "code": {"source": "image", "image": python_image}, "timeout": 60, "cpu": 500})["id"]

    def run(program: str) -> Any:
        code = "\n".join(["import ctypes, json, os, socket", textwrap.dedent(program),
                          "print(json.dumps(result))"])
        made = api.run(function, json.dumps(["-uc", code]), sync=False)
        ended = api.ended(made["id"], PATIENCE)
        log = api.log(made["id"])
        api.ok("DELETE", f"/v1/executions/{made['id']}", 204)
        assert ended["status"] == "success", (ended, log)
        for client in others:
            assert client.run({"program": "result = 'well'"}, timeout=20)["output"] == "well"
        return json.loads(log)

    yield run
    api.ok("DELETE", f"/v1/functions/{function}", 204)


@pytest.fixture(scope="module")
def targets(cluster: Cluster, others: Others) -> Iterator[list[tuple[str, int]]]:
    with hostile.listening(cluster, *others) as found:
        yield found


def test_nothing_can_be_reached(attack: Callable[[str], Any],
                                targets: list[tuple[str, int]]) -> None:
    assert attack(hostile.CONNECT.format(targets=targets)) == []


def test_no_packet_of_another_kind(attack: Callable[[str], Any]) -> None:
    assert attack(hostile.PACKETS) == []


def test_it_is_nobody_and_stays_so(attack: Callable[[str], Any]) -> None:
    status, allowed = attack("""
        libc = ctypes.CDLL(None, use_errno=True)
        result = [open('/proc/self/status').read(), []]
        tries = {'root': lambda: os.setuid(0), 'group': lambda: os.setgid(1),
                 'chroot': lambda: os.chroot('/tmp'),
                 'device': lambda: os.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))}
        for name, call in tries.items():
            try:
                call()
                result[1].append(name)
            except OSError:
                pass
        if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0:
            result[1].append('mount')
        if libc.unshare(0x10000000) == 0:  # CLONE_NEWUSER
            result[1].append('namespace')
        """)
    assert allowed == []
    hostile.must_be_confined(status)


def test_no_token_and_a_root_that_is_read_only(attack: Callable[[str], Any]) -> None:
    assert attack(f"""
        result = [path for path in {hostile.TOKENS} if os.path.exists(path)]
        if not os.statvfs('/').f_flag & os.ST_RDONLY:
            result.append('root')
        """) == []
    assert attack(hostile.WRITE) == []


def test_it_sees_no_process_of_others(attack: Callable[[str], Any]) -> None:
    """There is one that holds the pod, which does nothing else; that is another user's."""
    seen, opened = attack(f"""
        result = [{{}}, []]
        for pid in filter(str.isdigit, os.listdir('/proc')):
            if int(pid) == os.getpid():
                continue
            result[0][pid] = open(f'/proc/{{pid}}/cmdline').read()
            for path in {hostile.OF_A_SERVER}:
                for look in (os.listdir, os.readlink, lambda path: open(path, 'rb').read(1)):
                    try:
                        result[1].append(repr(look(f'/proc/{{pid}}/{{path}}')))
                    except OSError:
                        pass
            try:
                os.kill(int(pid), 0)
                result[1].append('signal')
            except OSError:
                pass
        """)
    assert (list(seen), opened) == (["1"], [])
    assert "pause" in seen["1"]


def test_what_is_not_reached_is_there(attack: Callable[[str], Any], cluster: Cluster,
                                      namespace: str, beside: str,
                                      targets: list[tuple[str, int]]) -> None:
    """The same program, in a pod like the others, while no policy holds."""
    cluster.kubectl("-n", namespace, "delete", "networkpolicies", "--all")
    try:
        assert processes.wait_for(lambda: attack(hostile.CONNECT.format(targets=targets)) == [
            list(target) for target in targets], PATIENCE)
    finally:
        cluster.apply(*policies.of_workers(namespace, beside, cluster.host))
