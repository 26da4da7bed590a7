# SPDX-License-Identifier: Apache-2.0
"""A project that floods the service beside another one is answered later, and loses nothing."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.functional.client import Api, output
from tests.functional.running import Running

SLEEPS = "import time\n\n\ndef main(seconds=0):\n    time.sleep(seconds)\n    return seconds\n"
_CLIENTS = 4
#: Of each client; the first ones of a project are answered at once.
_EACH = 20


def flood(url: str, function: str) -> tuple[float, list[str]]:
    """Send many executions of project A at once; return how long an answer took, and their ids."""
    def send(_: int) -> list[tuple[float, str]]:
        api, sent = Api(url, "a"), []
        for _number in range(_EACH):
            began = time.monotonic()
            made = api.run(function, {"seconds": 0.2}, sync=False)
            sent.append((time.monotonic() - began, made["id"]))
        api.close()
        return sent

    with ThreadPoolExecutor(_CLIENTS) as pool:
        each = list(pool.map(send, range(_CLIENTS)))
    late = statistics.median(took for sent in each for took, _ in sent[_EACH // 2:])
    return late, [made for sent in each for _, made in sent]


def test_a_flood_is_answered_later_beside_another_project(
        start_service: Callable[..., Running]) -> None:
    """Alone it is answered as fast as it goes; all of it begins by itself and ends."""
    running = start_service()
    first, second = running.api(project="a"), running.api(project="b")
    theirs, mine = first.function(SLEEPS), second.function(SLEEPS)
    for api, function in ((first, theirs), (second, mine)):
        api.run(function)

    def compare() -> bool:
        """Flood alone, and beside another; what else the machine does hits them alike, mostly."""
        time.sleep(5.5)  # until neither of them counts any more
        alone, made = flood(first.url, theirs)
        with now_and_then(second, mine):
            beside, more = flood(first.url, theirs)
        for execution in made + more:
            assert output(first.ended(execution, 60)) == 0.2
        print(f"an answer took {alone:.3f} s alone, {beside:.3f} s beside another project")
        return beside > 1.5 * alone

    assert any(compare() for _ in range(3))
    first.close()
    second.close()


@contextlib.contextmanager
def now_and_then(api: Api, function: str) -> Iterator[None]:
    """Run executions meanwhile, which succeed."""
    over, outputs = threading.Event(), []

    def run() -> None:
        while not over.wait(0.1):
            outputs.append(output(api.run(function)))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    assert set(outputs) == {0}
