# SPDX-License-Identifier: Apache-2.0
"""Measures the queue: python -m tests.benchmarks.bench_durability [--databases postgresql ...].

For each database, with 1, 2 and 4 engines: how fast one API process accepts asynchronous
executions, how fast they drain; what an idle engine costs; and how long it takes from the kill -9
of an engine until what it ran has begun again elsewhere. It asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import requests
import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from tests import databases
from tests.functional.client import make_zip
from tests.functional.deployment import Deployment, EngineProcess
from tests.functional.running import Running
from tests.reliability.ledger import Ledger

_EMPTY = "def main(**kwargs):\n    return 1\n"
_WITNESS = Path(__file__).parents[1] / "reliability" / "functions" / "witness.py"
_CLIENTS = 8


def _function(deployment: Deployment, code: str, **fields: str) -> str:
    values = {"code": '{"source": "package"}', "runtime_id": deployment.runtime,
              "entry": "main.main", "timeout": "120", **fields}
    made = deployment.api().ok("POST", "/v1/functions", 201, data=values,
                               files={"package": ("f.zip", make_zip({"main.py": code}))})
    return str(made["id"])


def _accept(service: str, function: str, count: int) -> float:
    """Post asynchronous executions from several clients; return how many a second."""
    body = json.dumps({"function_id": function, "sync": False})
    url = f"{service}/v1/executions"

    def client() -> None:
        with requests.Session() as session:
            for _ in range(count // _CLIENTS):
                session.post(url, body, headers={"Content-Type": "application/json"},
                             timeout=60).raise_for_status()

    began = time.monotonic()
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for one in [pool.submit(client) for _ in range(_CLIENTS)]:
            one.result()
    return count / (time.monotonic() - began)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("It takes too long.")
        time.sleep(0.05)


def _rows(deployment: Deployment, function: str) -> list[dict[str, str]]:
    found, path = [], f"/v1/executions?function_id={function}&limit=1000"
    while path:
        page = deployment.api().ok("GET", path)
        found += page["executions"]
        following = page.get("next")
        path = following and "/v1/executions?" + following.partition("?")[2]
    return found


def _drain(deployment: Deployment, function: str) -> float:
    """Wait until all has ended; return how many ended a second, the first and last 10 % aside."""
    api = deployment.api()
    query = {"function_id": function, "status": "running", "limit": 1}
    _wait(lambda: not api.ok("GET", "/v1/executions", params=query)["executions"], 600)
    rows = _rows(deployment, function)
    ends = sorted(datetime.fromisoformat(row["finished_at"]) for row in rows)
    low, high = len(ends) // 10, len(ends) * 9 // 10
    return (high - low) / (ends[high] - ends[low]).total_seconds()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _statements(server: databases.Server) -> int:
    """Return a count of the server: transactions of PostgreSQL, statements of MariaDB."""
    if server.kind == "sqlite":
        return 0
    query = ("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database"
             if server.kind == "postgresql" else
             "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS"
             " WHERE VARIABLE_NAME = 'QUESTIONS'")
    with server.administrator() as connection:
        return int(connection.execute(sa.text(query)).scalar_one())


def _measure_rates(server: databases.Server, folder: Path, count: int) -> None:
    for engines in (1, 2, 4):
        place = folder / f"{server.kind}-{engines}"
        place.mkdir()
        with Deployment(place, server.new_schema(), apis=1, engines=1) as deployment:
            function = _function(deployment, _EMPTY)
            deployment.engines[0].stop()
            accepted = _accept(deployment.apis[0].url, function, count)
            for _ in range(engines):
                deployment.start_engine(ready=False)
            drained = _drain(deployment, function)
            both = _function(deployment, _EMPTY)
            deployment.api().ok("POST", "/v1/executions", 201, json={"function_id": both})
            busy = _accept(deployment.apis[0].url, both, count)
            _drain(deployment, both)
            print(f"{server.kind:>11} {engines:>7} {accepted:>10.0f} {busy:>10.0f}"
                  f" {drained:>10.0f}  {os.getloadavg()[0]:.0f}", flush=True)


def _measure_embedded(folder: Path, count: int) -> None:
    """Print the same for the embedded service, whose engine is always there."""
    running = Running(folder / "embedded").wait_ready()
    api = running.api()
    function = api.function(_EMPTY, timeout=120)
    api.run(function)
    began = time.monotonic()
    accepted = _accept(running.url, function, count)
    _wait(lambda: not api.listed(function_id=function, status="running", limit=1), 600)
    drained = (count + 1) / (time.monotonic() - began)
    running.stop()
    print(f"   embedded {'':>7} {'':>10} {accepted:>10.0f} {drained:>10.0f}"
          f"  {os.getloadavg()[0]:.0f}", flush=True)


def _measure_idle(server: databases.Server, folder: Path, seconds: float) -> None:
    place = folder / f"{server.kind}-idle"
    place.mkdir()
    with Deployment(place, server.new_schema(), apis=1, engines=1) as deployment:
        time.sleep(5)
        pid = deployment.engines[0].pid
        cpu, statements = _cpu_seconds(pid), _statements(server)
        time.sleep(seconds)
        cpu, statements = _cpu_seconds(pid) - cpu, _statements(server) - statements
        print(f"{server.kind:>11} idle: {100 * cpu / seconds:.2f} % of a core,"
              f" {statements / seconds:.1f} transactions or statements a second", flush=True)


def _measure_recovery(server: databases.Server, folder: Path, lease: int, count: int) -> None:
    place = folder / f"{server.kind}-recovery"
    place.mkdir()
    times = []
    with Ledger() as ledger, Deployment(
            place, url := server.new_schema(), apis=1, engines=2,
            settings={"engine": {"lease_seconds": lease}}) as deployment:
        function = _function(deployment, _WITNESS.read_text(), max_attempts="2")
        body = {"function_id": function, "sync": False,
                "input": json.dumps({"ledger": ledger.port, "seconds": lease + 10})}
        for _ in range(count):
            made = deployment.api().ok("POST", "/v1/executions", 201, json=body)["id"]
            _wait(lambda made=made: bool(ledger.entries(made)), 60)
            owner = next(engine for engine in deployment.engines
                         if engine.process.poll() is None and _runs(engine, url, made))
            began = time.monotonic()
            owner.kill()
            _wait(lambda made=made: len(ledger.entries(made)) == 2, 120)
            times.append(ledger.entries(made)[1].start - began)
            deployment.start_engine()
            deployment.api().request("POST", f"/v1/executions/{made}/cancel")
    print(f"{server.kind:>11} recovery with a lease of {lease} s: p50"
          f" {statistics.median(times):.2f} s, max of {len(times)}: {max(times):.2f} s",
          flush=True)


def _measure_ends(server: databases.Server, folder: Path, lease: int, count: int) -> None:
    """Print how long after a kill the end of what may not be begun again is recorded."""
    place = folder / f"{server.kind}-ends"
    place.mkdir()
    times = []
    with Ledger() as ledger, Deployment(
            place, url := server.new_schema(), apis=1, engines=2,
            settings={"engine": {"lease_seconds": lease}}) as deployment:
        function = _function(deployment, _WITNESS.read_text())
        body = {"function_id": function, "sync": False,
                "input": json.dumps({"ledger": ledger.port, "seconds": lease + 10})}
        for _ in range(count):
            made = deployment.api().ok("POST", "/v1/executions", 201, json=body)["id"]
            _wait(lambda made=made: bool(ledger.entries(made)), 60)
            owner = next(engine for engine in deployment.engines
                         if engine.process.poll() is None and _runs(engine, url, made))
            killed = utcnow()
            owner.kill()
            _wait(lambda made=made: _finished(url, made) is not None, 60)
            times.append((_finished(url, made) - killed).total_seconds())
            deployment.start_engine()
    print(f"{server.kind:>11} end recorded, lease of {lease} s: p50"
          f" {statistics.median(times):.2f} s, {min(times):.2f} to {max(times):.2f} s of {count},"
          f" load {os.getloadavg()[0]:.0f}", flush=True)


def _finished(url: str, execution_id: str) -> datetime | None:
    with sa.create_engine(url, poolclass=sa.pool.NullPool).connect() as connection:
        table = models.Execution.__table__
        query = sa.select(table.c.finished_at).where(table.c.id == execution_id)
        found: datetime | None = connection.execute(query).scalar()
        return found


def _runs(engine: EngineProcess, url: str, execution_id: str) -> bool:
    """Tell whether an engine has an execution, by its runner's process id."""
    with sa.create_engine(url, poolclass=sa.pool.NullPool).connect() as connection:
        query = sa.text("SELECT r.pid FROM runners r JOIN executions e ON e.runner_id = r.id"
                        " WHERE e.id = :id")
        return connection.execute(query, {"id": execution_id}).scalar() == engine.pid


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", nargs="*", default=databases.KINDS)
    parser.add_argument("--count", type=int, default=800, help="executions for each rate")
    parser.add_argument("--lease", type=int, default=15)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--only", choices=("rates", "idle", "recovery", "ends"))
    options = parser.parse_args()
    print(f"{'database':>11} {'engines':>7} {'accepted/s':>10} {'while busy':>10}"
          f" {'drained/s':>10}  load")
    with tempfile.TemporaryDirectory(prefix="qx") as folder:
        if "sqlite" in options.databases and options.only in (None, "rates"):
            _measure_embedded(Path(folder), options.count)
        for kind in options.databases:
            with databases.start(kind, durable=True) as server:
                if options.only in (None, "rates") and kind != "sqlite":
                    _measure_rates(server, Path(folder), options.count)
                if options.only in (None, "idle"):
                    _measure_idle(server, Path(folder), options.idle_seconds)
                if options.only in (None, "recovery"):
                    _measure_recovery(server, Path(folder), options.lease, options.kills)
                if options.only in (None, "ends"):
                    _measure_ends(server, Path(folder), 5, options.kills)


if __name__ == "__main__":
    main()
