# SPDX-License-Identifier: Apache-2.0
"""What one run may use."""

from __future__ import annotations

import textwrap

import pytest

from tests.unit.runtime.worker import Worker

RESOURCES = "Function execution failed because of too much resource consumption"
MIB = 1 << 20
MEMORY = """
    def main(size):
        data = bytearray(size)
        data[::4096] = b'x' * len(data[::4096])
        return len(data)
    """


def test_memory(fresh: Worker) -> None:
    fresh.specialize(MEMORY, memory_size=32 * MIB)
    answer = fresh.run({"size": 80 * MIB})
    assert (answer["success"], answer["output"], answer["reason"]) == (
        False, RESOURCES, "memory")
    assert "MemoryError" in answer.text
    assert fresh.run({"size": 20 * MIB})["output"] == 20 * MIB


def test_more_memory(fresh: Worker) -> None:
    fresh.specialize(MEMORY, memory_size=96 * MIB)
    assert fresh.run({"size": 80 * MIB})["output"] == 80 * MIB
    assert fresh.run({"size": 100 * MIB})["output"] == RESOURCES


def test_result_that_does_not_fit_into_the_memory(fresh: Worker) -> None:
    fresh.specialize("def main(): return ['x' * 2**20] * 30", memory_size=32 * MIB,
                     limits={"result_size": 64 * MIB})
    assert fresh.run()["reason"] in ("memory", None)


def test_processes_by_the_functions_own_limit(fresh: Worker) -> None:
    fresh.specialize("""
        import resource, time
        from multiprocessing import Process

        def main(number=10):
            soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
            resource.setrlimit(resource.RLIMIT_NPROC, (number, hard))
            processes = []
            for i in range(number + 1):
                process = Process(target=time.sleep, args=(10,))
                process.start()
                processes.append(process)
            for process in processes:
                process.join()
        """)
    answer = fresh.run()
    assert (answer["success"], answer["output"]) == (False, RESOURCES)


def test_processes(fresh: Worker) -> None:
    fresh.specialize("""
        import os, time
        def main(number):
            for _ in range(number):
                if os.fork() == 0:
                    time.sleep(30)
            return number
        """, limits={"processes": 10})
    assert fresh.run({"number": 9})["output"] == 9
    # What the others have does not count.
    thread, other = fresh.background({"number": 9})
    assert fresh.run({"number": 9})["output"] == 9
    thread.join()
    assert other["output"] == 9
    answer = fresh.run({"number": 10})
    assert (answer["output"], answer["reason"]) == (RESOURCES, "processes")


def test_threads(fresh: Worker) -> None:
    fresh.specialize("""
        import threading, time
        def main(number):
            for _ in range(number):
                threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
            return number
        """, limits={"processes": 30}, memory_size=96 * MIB)
    assert fresh.run({"number": 20})["output"] == 20
    assert fresh.run({"number": 100})["output"] == RESOURCES


def test_open_files(worker: Worker) -> None:
    answer = worker.run({"program": "files = [open(f'file_{i}', 'w') for i in range(1024)]"})
    assert answer["success"] is False
    assert "Too many open files" in answer["output"]
    assert worker.run({"program": "result = len([open(f'file_{i}', 'w') for i in range(1000)])"}
                      )["output"] == 1000


def test_file_size(fresh: Worker) -> None:
    fresh.specialize("def main(size):\n    with open('x', 'wb') as f: f.write(bytes(size))"
                     "\n    return size", limits={"file_size": MIB})
    assert fresh.run({"size": MIB})["output"] == MIB
    assert fresh.run({"size": MIB + 1})["output"].startswith("OSError: [Errno 27] File too large")


def test_size_of_the_scratch_directory(fresh: Worker) -> None:
    if not fresh.ping()["isolation"]["private_tmp"]:
        pytest.skip("needs namespaces")
    fresh.specialize("def main(size):\n    with open('x', 'wb') as f: f.write(bytes(size))",
                     limits={"scratch_size": MIB})
    assert "No space left on device" in fresh.run({"size": 2 * MIB})["output"]
    assert fresh.run({"size": 1000})["success"]


def test_result_size(fresh: Worker) -> None:
    fresh.specialize("def main(size): return 'x' * size", limits={"result_size": 10000})
    assert fresh.run({"size": 9000})["success"]
    answer = fresh.run({"size": 20000})
    assert (answer["success"], answer["reason"]) == (False, "too-large")
    assert "10000 are allowed" in answer["output"]


def test_no_limit_can_be_raised(worker: Worker) -> None:
    assert worker.run({"program": textwrap.dedent("""
        import resource
        result = []
        for name in ('NPROC', 'NOFILE', 'FSIZE', 'AS', 'CORE'):
            kind = getattr(resource, 'RLIMIT_' + name)
            soft, hard = resource.getrlimit(kind)
            try:
                resource.setrlimit(kind, (soft, hard + 1))
                result.append(name)
            except (OSError, ValueError):
                pass
        """)})["output"] == []
