# SPDX-License-Identifier: Apache-2.0
"""Measures what a deployment takes: python -m tests.benchmarks.bench_sizing [--executions 400].

Prints memory (proportional) of an API process, of an engine and of a worker, idle and after work;
connections to the database; and bytes of the database for an execution. It asserts nothing.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from tests import databases
from tests.functional import processes
from tests.functional.deployment import Deployment

_CLIENTS = 16
_EMPTY = "def main(**kwargs):\n    return 1\n"
_TALKING = "def main(text, **kwargs):\n    print(text)\n    return text\n"
_BYTES = sa.text("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables")
_CONNECTIONS = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")


def mib(pid: int) -> float:
    """Return a process's share of memory, in MiB."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"^Pss: +(\d+)", text, re.M)) / 1024


def memory(deployment: Deployment) -> str:
    """Return what its processes take."""
    engine = deployment.engines[0]
    lines = engine.workers()
    # The server of a worker, the zygote below it and what keeps it belong together.
    whole = sum(mib(pid) for pid, _ in lines)
    servers = len([line for line in lines.values() if "--listen" in line]) or len(lines)
    return (f"API {mib(deployment.apis[0].pid):.0f} MiB, engine {mib(engine.pid):.0f} MiB,"
            f" workers {whole:.0f} MiB in {len(lines)} processes ({servers} servers)")


def work(deployment: Deployment, code: str, count: int, given: object = None) -> None:
    """Run a function often, from several clients."""
    function = deployment.api().function(code)

    def one(_number: int) -> None:
        deployment.api().run(function, given)

    with ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(one, range(count)))


def main() -> None:
    """Start a deployment, use it, and tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--executions", type=int, default=400)
    count = parser.parse_args().executions
    server = databases.start("postgresql")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-sizing-"))
    engine = sa.create_engine(server.new_schema())
    url = engine.url.render_as_string(hide_password=False)
    with Deployment(folder, url) as deployment, engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        print("idle:      ", memory(deployment))
        print("connections", connection.execute(_CONNECTIONS).scalar_one() - 1)
        seen: list[int] = []
        for name, code, given in (("empty", _EMPTY, None),
                                  ("1 kB", _TALKING, {"text": "x" * 1000})):
            before = connection.execute(_BYTES).scalar_one()
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(work, deployment, code, count, given)
                while not processes.wait_for(done.done, 0.2):
                    seen.append(connection.execute(_CONNECTIONS).scalar_one() - 1)
                done.result()
            size = connection.execute(_BYTES).scalar_one() - before
            print(f"{name:11} {size / count:.0f} bytes an execution;", memory(deployment))
        print(f"connections with {_CLIENTS} clients: median {statistics.median(seen):.0f},"
              f" most {max(seen)}")
    engine.dispose()
    server.close()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
