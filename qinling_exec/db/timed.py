# SPDX-License-Identifier: Apache-2.0
"""Connections of psycopg that give up when the server stays silent: libpq waits for ever."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any


def connect(seconds: float | None, *args: Any, **options: Any) -> Any:
    """Connect to PostgreSQL.

    :param seconds: how long an answer may take; None: for ever. When it does not come, the
        connection is closed and psycopg.OperationalError raised.
    """
    import psycopg  # a driver: there when PostgreSQL is used

    if seconds is None:
        return psycopg.connect(*args, **options)
    limit = seconds
    class Connection(psycopg.Connection[Any]):
        """A connection with a limit on every answer."""

        def wait(self, gen: Any, *rest: Any, **named: Any) -> Any:
            """Wait for an answer as psycopg does, but not for ever."""
            try:
                return super().wait(_until(gen, time.monotonic() + limit), *rest, **named)
            except TimeoutError as error:
                self.pgconn.finish()
                raise psycopg.OperationalError("the server did not answer in time") from error

    return Connection.connect(*args, **options)


def _until(steps: Any, deadline: float) -> Generator[Any, Any, Any]:
    """Pass a generator on; psycopg wakes it every tenth of a second also when nothing came."""
    ready = None
    while True:
        try:
            wanted = steps.send(ready)
        except StopIteration as end:
            return end.value
        ready = yield wanted
        if not ready and time.monotonic() > deadline:
            raise TimeoutError
