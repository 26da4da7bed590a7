# SPDX-License-Identifier: Apache-2.0
"""What one project's synchronous callers do to another: python -m tests.benchmarks.bench_places.

Project B asks now and then: a synchronous execution, an asynchronous one, and a list; first alone,
then while project A has three times as many synchronous callers as one process has places, of a
function that sleeps a second. A caller of A's that is refused comes again after as long as
``Retry-After`` says. Printed is how long B's requests took, and what both were answered.
It asserts nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks.bench_fairness import SLEEPS
from tests.functional.client import Api
from tests.functional.running import Running

#: Seconds between B's rounds.
_PAUSE = 0.2


def flood(url: str, function: str, callers: int, seconds: float, answers: Any) -> None:
    """Call all the time as project A, from a process of its own; put what was answered."""
    body = {"function_id": function, "input": '{"seconds": 1.0}'}
    until = time.monotonic() + seconds

    def call(api: Api) -> Counter[int]:
        found: Counter[int] = Counter()
        while time.monotonic() < until:
            reply = api.session.post(f"{url}/v1/executions", json=body, headers=api.headers,
                                     timeout=60)
            found[reply.status_code] += 1
            if reply.status_code != 201:
                time.sleep(float(reply.headers["Retry-After"]))
        return found

    with ThreadPoolExecutor(callers) as pool:
        answers.put(sum(pool.map(call, [Api(url, "a") for _ in range(callers)]), Counter()))


def rounds(api: Api, function: str, seconds: float) -> None:
    """Ask as project B, and print how long that took."""
    times: dict[str, list[float]] = {"sync": [], "async": [], "list": []}
    found: Counter[int] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, method, body in (("sync", "POST", {"function_id": function}),
                                   ("async", "POST", {"function_id": function, "sync": False}),
                                   ("list", "GET", None)):
            began = time.monotonic()
            reply = api.session.request(method, f"{api.url}/v1/executions", json=body,
                                        headers=api.headers, timeout=60)
            times[name].append(time.monotonic() - began)
            found[reply.status_code] += 1
        time.sleep(_PAUSE)
    print("".join(f"{name:>8}{statistics.median(some) * 1000:>6.0f}{max(some) * 1000:>6.0f}"
                  for name, some in times.items())
          + f"  {dict(found)}, load {os.getloadavg()[0]:.0f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--callers", type=int, default=192, help="of project A")
    options = parser.parse_args()
    running = Running(pathlib.Path(tempfile.mkdtemp(prefix="qx")) / "data").wait_ready()
    try:
        first, second = running.api(project="a"), running.api(project="b")
        theirs, mine = first.function(SLEEPS), second.function()
        for api, function in ((first, theirs), (second, mine)):
            api.run(function)  # their first workers are there
        print("p50 and maximum in ms, answers")
        print("B alone     ", end="")
        rounds(second, mine, options.seconds)
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        sender = context.Process(target=flood, args=(
            first.url, theirs, options.callers, options.seconds + 5, answers))
        sender.start()
        time.sleep(4)
        print("B beside A  ", end="")
        rounds(second, mine, options.seconds)
        print(f"A was answered {dict(answers.get())}")
        sender.join()
    finally:
        running.kill()


if __name__ == "__main__":
    main()
