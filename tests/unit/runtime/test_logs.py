# SPDX-License-Identifier: Apache-2.0
"""What runs print."""

from __future__ import annotations

import json
import textwrap
import time

from tests.unit.runtime.client import STREAM, Answer, frames
from tests.unit.runtime.worker import Worker

MIB = 1 << 20


def run(worker: Worker, program: str, **more: object) -> Answer:
    return worker.run({"program": textwrap.dedent(program)}, **more)


def test_order_of_stdout_stderr_and_subprocesses_is_kept(worker: Worker) -> None:
    answer = run(worker, """
        print(1)
        print(2, file=sys.stderr)
        subprocess.run(['echo', '3'])
        os.write(1, b'4\\n')
        sys.stdout.buffer.write(b'5\\n')
        print(6, end='')
        """)
    assert answer.log == b"1\n2\n3\n4\n5\n6"


def test_bytes_are_kept_as_they_are(worker: Worker) -> None:
    answer = run(worker, "os.write(1, bytes(range(256)) * 10)")
    assert answer.log == bytes(range(256)) * 10


def test_text_is_utf_8_whatever_it_is(worker: Worker) -> None:
    assert run(worker, "print('é\\ud800')").log == "é\\ud800\n".encode()


def test_log_is_seen_while_the_run_goes_on(worker: Worker) -> None:
    connection = worker.begin({"program": "print('first'); time.sleep(0.6); print('second')"})
    response = connection.getresponse()
    began = time.monotonic()
    first = next(frames(response))
    assert time.monotonic() - began < 0.5
    assert first == (b"L", b"first\n")
    rest = list(frames(response))
    assert rest[0] == (b"L", b"second\n")
    assert json.loads(rest[1][1])["success"] is True
    response.read()
    connection.close()


def test_everything_before_a_kill_is_kept(worker: Worker) -> None:
    answer = run(worker, """
        for number in range(5000):
            print(number)
        sys.stdout.write('no newline')
        os.kill(os.getpid(), signal.SIGKILL)
        """)
    assert answer.log == "".join(f"{number}\n" for number in range(5000)).encode() + b"no newline"


def test_log_keeps_its_beginning(fresh: Worker) -> None:
    fresh.specialize("def main(size):\n    print('x' * size, end='')", limits={"log_size": 1000})
    answer = fresh.run({"size": 1000})
    assert (answer.log, answer["log_truncated"]) == (b"x" * 1000, False)
    answer = fresh.run({"size": 1001})
    assert answer["log_truncated"] is True
    assert answer.log == b"x" * 1000 + b"\n[The log was cut here: its limit is 1000 bytes.]\n"


def test_flood_is_drained_and_nothing_else_suffers(worker: Worker) -> None:
    size = 200 * MIB
    thread, flood = worker.background({"program": f"""
block = b'y' * {MIB}
for _ in range({size // MIB}):
    os.write(1, block)
result = 'written'
"""}, timeout=30)
    slowest = 0.0
    while thread.is_alive():
        began = time.monotonic()
        assert run(worker, "result = 1")["output"] == 1
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    thread.join()
    assert (flood["output"], flood["log_truncated"]) == ("written", True)
    assert flood.log.startswith(b"y" * MIB + b"\n[The log was cut")
    assert slowest < 3
    with open(f"/proc/{worker.process.pid}/status") as file:
        (peak,) = [int(line.split()[1]) for line in file if line.startswith("VmHWM")]
    assert peak < 100 * 1024


def test_flood_until_the_timeout(worker: Worker) -> None:
    answer = run(worker, "while True: os.write(2, b'z' * 65536)", timeout=0.5)
    assert (answer["reason"], answer["log_truncated"]) == ("timeout", True)


def test_whole_answer_without_streaming(worker: Worker) -> None:
    status, answer = worker.call("POST", "/execute", json.dumps(worker.order(
        {"program": "os.write(1, b'a\\xffb'); result = 5"})))
    assert status == 200
    assert answer == {"success": True, "output": 5, "duration": answer["duration"],
                      "reason": None, "log_truncated": False, "logs": "a\ufffdb"}


def test_content_type_of_the_stream(worker: Worker) -> None:
    connection = worker.begin({"program": "print(1)"})
    response = connection.getresponse()
    assert response.headers["Content-Type"] == STREAM
    response.read()
    connection.close()
