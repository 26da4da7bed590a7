# SPDX-License-Identifier: Apache-2.0
"""What is counted and measured, for Prometheus; nothing in it names a project or an object.

With ``PROMETHEUS_MULTIPROC_DIR`` the processes of a machine count in files of that directory, and
each of them tells the sum.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import prometheus_client
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, multiprocess
from prometheus_client.core import GaugeMetricFamily, Metric

from qinling_exec import exceptions
from qinling_exec.db import clock, models
from qinling_exec.db.engine import Database

#: Seconds; a synchronous execution is a request too.
_BUCKETS = (.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300)
#: Seconds for which a look at the database is good; scrapers may come in flocks.
_LOOK_SECONDS = 5.0

REQUESTS = Counter("qinling_exec_requests", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("qinling_exec_request_seconds", "Time until a request was answered.",
                            ["method", "route"], buckets=_BUCKETS)
ENDED = Counter("qinling_exec_executions_ended", "Executions ended by this runner.",
                ["status", "reason"])
CLAIMS = Counter("qinling_exec_claims", "Executions that this runner made its own.", ["by"])
REST_SECONDS = Counter("qinling_exec_rest_seconds",
                       "Seconds by which answers to a flood beside other projects came later.")
#: A pod that is taken from a pool was created long before; what counts is when it was ready.
POD_SECONDS = Histogram("qinling_exec_pod_start_seconds",
                        "Time from a pod's creation until it could be used.", ["kind"],
                        buckets=_BUCKETS)
WORKER_SECONDS = Histogram("qinling_exec_worker_start_seconds",
                           "Time until a worker had loaded its function.", buckets=_BUCKETS)
RENEWALS = Counter("qinling_exec_lease_renewals", "Heartbeats of runners.", ["outcome"])

_executions = models.Execution.__table__
_runners = models.Runner.__table__
_runtimes = models.Runtime.__table__
_workers = models.Worker.__table__


class Metrics:
    """What one process tells when it is asked.

    :param lease: seconds after which a silent runner counts as dead.
    """

    def __init__(self, database: Database, lease: float) -> None:
        self._database = database
        self._lease = lease
        self._lock = threading.Lock()
        self._seen: list[Metric] = []
        self._looked = 0.0

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        registry = prometheus_client.REGISTRY
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        own = CollectorRegistry()
        own.register(self)
        text: bytes = prometheus_client.generate_latest(registry)
        return text + prometheus_client.generate_latest(own)

    def collect(self) -> Iterator[Metric]:
        """Tell what the database has, as seen a moment ago, and this process's connections."""
        with self._lock:
            if time.monotonic() - self._looked > _LOOK_SECONDS:
                self._seen = self._look()
                self._looked = time.monotonic()
            yield from self._seen
        pool = self._database.engine.pool
        if isinstance(pool, sa.pool.QueuePool):
            yield _gauge("database_connections", "Connections of this process that are in use.",
                         pool.checkedout())
            yield _gauge("database_connections_limit", "How many it may have.",
                         pool.size() + max(0, pool._max_overflow))

    def _look(self) -> list[Metric]:
        try:
            with self._database.reader() as connection:
                seen = [*self._queue(connection), *self._processes(connection)]
        except (exceptions.ServiceError, sa.exc.SQLAlchemyError):
            return [_gauge("database_up", "1 when the database answers.", 0)]
        return [_gauge("database_up", "1 when the database answers.", 1), *seen]

    def _queue(self, connection: sa.Connection) -> Iterator[Metric]:
        claimed = _executions.c.runner_id.is_not(None)
        rows = connection.execute(
            sa.select(claimed.label("claimed"), sa.func.count().label("number"),
                      sa.func.min(_executions.c.created_at).label("oldest"))
            .where(_executions.c.status == "running").group_by(claimed)
        ).all()
        numbers = {bool(row.claimed): row.number for row in rows}
        oldest = min((row.oldest for row in rows if not row.claimed), default=None)
        age = (clock.read(connection) - oldest).total_seconds() if oldest else 0.0
        yield _gauge("executions_queued", "Executions that wait for a worker.",
                     numbers.get(False, 0))
        yield _gauge("executions_running", "Executions that a runner has.", numbers.get(True, 0))
        yield _gauge("queue_age_seconds", "Age of the execution that waits longest.",
                     max(0.0, age))

    def _processes(self, connection: sa.Connection) -> Iterator[Metric]:
        since = clock.read(connection) - timedelta(seconds=self._lease)
        beats = connection.execute(sa.select(_runners.c.heartbeat_at)).scalars().all()
        alive = sum(beat >= since for beat in beats)
        yield _gauge("runners_alive", "Processes with a valid lease.", alive)
        yield _gauge("runners_dead", "Processes whose lease is over.", len(beats) - alive)
        workers = GaugeMetricFamily("qinling_exec_workers", "Workers.", labels=["state"])
        states = sa.select(_workers.c.state, sa.func.count()).group_by(_workers.c.state)
        for state, number in connection.execute(states):
            workers.add_metric([state], number)
        yield workers
        pools = sa.select(sa.func.sum(_runtimes.c.pool_total),
                          sa.func.sum(_runtimes.c.pool_available))
        total, available = connection.execute(pools).one()
        yield _gauge("pool_workers", "Warm generic workers.", total or 0)
        yield _gauge("pool_workers_available", "Those that can be taken.", available or 0)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"qinling_exec_{name}", text, value=float(value))
