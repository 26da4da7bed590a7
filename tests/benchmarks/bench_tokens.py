# SPDX-License-Identifier: Apache-2.0
"""Measures what the check of a token costs: python -m tests.benchmarks.bench_tokens [--rounds 40].

Prints p50 and p95 of a GET with a token, in ms, for services that differ in where they keep tokens
that were found valid: nowhere, in the process, in memcached; and of one without Keystone. They run
at the same time and are asked in turns, so that the load of the machine is the same for all. It
needs memcached, and asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from tests.functional.client import Api
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone
from tests.functional.running import Running, free_port

_PATH = "/v1/runtimes?limit=1"
_ROUND = 10


def services(folder: pathlib.Path, keystone: Keystone, port: int) -> dict[str, Running]:
    """Start a service for each way to keep tokens."""
    account = keystone.settings("qinling", "service")
    ways = {
        "Keystone each time": account + "token_cache_time = -1\n",
        "in the process": account,
        "in the process, with catalogue": account + "service_type = function-engine\n",
        "memcached": account + f"memcached_servers = 127.0.0.1:{port}\n",
        "memcached, encrypted": account + f"memcached_servers = 127.0.0.1:{port}\n"
        "memcache_security_strategy = ENCRYPT\nmemcache_secret_key = of-the-benchmark\n",
    }
    started: dict[str, Running] = {"no Keystone": Running(folder / "noauth")}
    for number, (name, settings) in enumerate(ways.items()):
        started[name] = Deployed(folder / f"way{number}", settings)
    return {name: running.wait_ready(120) for name, running in started.items()}


def measure(callers: dict[str, Api], rounds: int) -> dict[str, list[float]]:
    """Return the times of requests, in ms, without each service's first round."""
    times: dict[str, list[float]] = {name: [] for name in callers}
    for number in range(rounds + 1):
        for name, caller in callers.items():
            for _ in range(_ROUND):
                began = time.perf_counter()
                caller.ok("GET", _PATH)
                if number:
                    times[name].append((time.perf_counter() - began) * 1000)
    return times


def main() -> None:
    """Start everything, ask, and tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    folder, port = pathlib.Path(tempfile.mkdtemp(prefix="bench-tokens-")), free_port()
    memcached = subprocess.Popen(["memcached", "-l", "127.0.0.1", "-p", str(port), "-u", "nobody"])
    keystone = Keystone(folder / "keystone")
    keystone.user("qinling", "service", "service")
    keystone.user("caller", "project", "reader")
    keystone.service("qinling", "function-engine", "http://127.0.0.1:7070")
    started = services(folder, keystone, port)
    token = keystone.token("caller", "project")
    callers = {name: running.api(token=token) for name, running in started.items()}
    before = os.getloadavg()[0]
    for name, found in measure(callers, rounds).items():
        print(f"{name:32} p50 {statistics.median(found):7.2f} ms   p95"
              f" {statistics.quantiles(found, n=20)[-1]:7.2f} ms   best {min(found):7.2f} ms")
    print(f"{rounds * _ROUND} requests each, load {before:.0f} to {os.getloadavg()[0]:.0f}")
    for caller in callers.values():
        caller.close()
    for running in started.values():
        running.stop()
    keystone.close()
    memcached.terminate()
    memcached.wait()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
