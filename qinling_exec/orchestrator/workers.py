# SPDX-License-Identifier: Apache-2.0
"""The worker table: which warm workers each version of a function has."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from qinling_exec.db import models
from qinling_exec.db.engine import Database, utcnow
from qinling_exec.db.wakeup import Wakeup

#: Wanted and not there yet; takes runs; takes no new ones and goes when it has none; is ended with
#: all that it runs.
STARTING, READY, DRAINING, ENDING = "starting", "ready", "draining", "ending"
#: Of those that are going.
LEAVING = (DRAINING, ENDING)

_table = models.Worker.__table__
_runtimes = models.Runtime.__table__
_executions = models.Execution.__table__
#: Built once: every execution asks.
_READY_FOR = sa.select(_table).where(
    _table.c.function_id == sa.bindparam("wanted"),
    _table.c.function_version == sa.bindparam("version"), _table.c.state == READY,
)


@dataclass(frozen=True)
class Worker:
    """A worker as the table has it; ``repr`` leaves its secret out."""

    name: str
    function_id: str
    function_version: int
    fingerprint: str
    state: str
    runner_id: str | None
    address: str | None
    room: int
    secret: str | None = None
    lost: str | None = None

    def __repr__(self) -> str:
        return f"<Worker {self.name} {self.state}>"


def build(row: sa.Row[Any]) -> Worker:
    """Return a row of the table as a worker."""
    return Worker(**{name: row._mapping[name] for name in Worker.__dataclass_fields__})


def ready(connection: sa.Connection, function_id: str, version: int) -> list[Worker]:
    """Return the workers that may take a run of a version now."""
    rows = connection.execute(_READY_FOR, {"wanted": function_id, "version": version})
    return [build(row) for row in rows]


class Workers:
    """What the catalogue and the engine do with the table.

    :param wakeup: rung when the table has work for an engine.
    :param room: runs that a worker takes at the same time.
    """

    def __init__(self, database: Database, wakeup: Wakeup, room: int) -> None:
        self._database = database
        self.wakeup = wakeup
        self.room = room

    def names(self, function_id: str, version: int, limit: int) -> list[str]:
        """Return the names of a version's workers, wanted ones included."""
        query = (
            sa.select(_table.c.name)
            .where(_table.c.function_id == function_id, _table.c.function_version == version,
                   _table.c.state.not_in(LEAVING))
            .order_by(_table.c.created_at, _table.c.name).limit(limit)
        )
        with self._database.reader() as connection:
            return list(connection.execute(query).scalars())

    def detach(self, connection: sa.Connection, function_id: str, version: int | None) -> None:
        """Let a function's workers go once their runs end; ``None``: of all its versions."""
        which = [_table.c.function_id == function_id]
        if version is not None:
            which.append(_table.c.function_version == version)
        connection.execute(sa.update(_table).where(*which, _table.c.state != ENDING)
                           .values(state=DRAINING))

    def want(self, connection: sa.Connection, function_id: str, version: int, fingerprint: str,
             count: int, runner_id: str | None = None) -> None:
        """Ask for more workers; an engine starts them.

        :param runner_id: the engine that will, None for any.
        """
        if count < 1:
            return
        connection.execute(sa.insert(_table), [
            {"name": f"qx-{secrets.token_hex(8)}", "function_id": function_id,
             "function_version": version, "fingerprint": fingerprint, "state": STARTING,
             "runner_id": runner_id, "room": self.room, "created_at": utcnow()}
            for _ in range(count)
        ])

    def want_up_to(self, function_id: str, version: int, fingerprint: str, runtime_id: str,
                   count: int, total: int, runner_id: str) -> int:
        """Ask for workers until there are so many, for an engine that starts them.

        Engines do this one after the other: the lock of the runtime's row makes each count what
        the others have asked for.

        :param count: workers that the version is to have.
        :param total: workers that all functions together may have.
        :returns: how many more were asked for.
        """
        with self._database.writer() as connection:
            connection.execute(sa.select(_runtimes.c.id).where(_runtimes.c.id == runtime_id)
                               .with_for_update())
            has = connection.execute(sa.select(sa.func.count()).where(
                _table.c.function_id == function_id, _table.c.function_version == version,
                _table.c.fingerprint == fingerprint, _table.c.state.not_in(LEAVING),
            )).scalar_one()
            everyone = connection.execute(
                sa.select(sa.func.count()).select_from(_table)
            ).scalar_one()
            missing = max(0, min(count - has, total - everyone))
            self.want(connection, function_id, version, fingerprint, missing, runner_id)
        return missing

    def all(self, connection: sa.Connection) -> list[Worker]:
        """Return every worker, in the order in which they were asked for."""
        query = sa.select(_table).order_by(_table.c.created_at, _table.c.name)
        return [build(row) for row in connection.execute(query)]

    def scale_down(self, connection: sa.Connection, function_id: str, version: int,
                   count: int) -> None:
        """Let some workers go, the youngest first, and keep one."""
        query = (
            sa.select(_table.c.name)
            .where(_table.c.function_id == function_id, _table.c.function_version == version,
                   _table.c.state.not_in(LEAVING))
            .order_by(_table.c.created_at.desc(), _table.c.name)
        )
        names = list(connection.execute(query).scalars())
        self.set_state(connection, names[: min(count, len(names) - 1)], DRAINING)

    def set_state(self, connection: sa.Connection, names: list[str], state: str) -> None:
        """Put workers into a state."""
        if names:
            connection.execute(
                sa.update(_table).where(_table.c.name.in_(names), _table.c.state != ENDING)
                .values(state=state)
            )

    def of_engine(self, runner_id: str) -> list[Worker]:
        """Return the workers that an engine looks after, and those that no engine does yet."""
        query = sa.select(_table).where(
            sa.or_(_table.c.runner_id == runner_id, _table.c.runner_id.is_(None))
        )
        with self._database.reader() as connection:
            return [build(row) for row in connection.execute(query)]

    def drain(self, runner_id: str) -> None:
        """Let all workers of an engine go once their runs end."""
        with self._database.writer() as connection:
            connection.execute(
                sa.update(_table).where(_table.c.runner_id == runner_id,
                                        _table.c.state != ENDING).values(state=DRAINING)
            )

    def leave(self, runner_id: str, name: str | None = None) -> None:
        """Leave an engine's workers, or one of them, to any other engine."""
        which = [_table.c.runner_id == runner_id]
        if name is not None:
            which.append(_table.c.name == name)
        with self._database.writer() as connection:
            connection.execute(sa.update(_table).where(*which).values(runner_id=None))
        self.wakeup.ring()

    def adopt(self, name: str, runner_id: str) -> bool:
        """Make a wanted worker an engine's own to start; False when another was faster."""
        with self._database.writer() as connection:
            result = connection.execute(
                sa.update(_table).where(_table.c.name == name, _table.c.runner_id.is_(None))
                .values(runner_id=runner_id)
            )
            return bool(result.rowcount)

    def started(self, name: str, address: str, secret: str) -> bool:
        """Open a worker for runs; False when it is not wanted any more."""
        with self._database.writer() as connection:
            result = connection.execute(
                sa.update(_table).where(_table.c.name == name, _table.c.state == STARTING)
                .values(state=READY, address=address, secret=secret)
            )
            return bool(result.rowcount)

    def lose(self, name: str, reason: str) -> None:
        """Note why a worker is none any more; it takes no runs from now on."""
        with self._database.writer() as connection:
            connection.execute(sa.update(_table).where(_table.c.name == name)
                               .where(_table.c.lost.is_(None))
                               .values(state=DRAINING, lost=reason[:255]))

    def loss(self, name: str) -> str | None:
        """Return why a worker was lost: None when nobody has said so yet, else words or none."""
        with self._database.reader() as connection:
            row = connection.execute(
                sa.select(_table.c.lost).where(_table.c.name == name)).first()
        return "" if row is None else row.lost

    def has_runs(self, name: str) -> bool:
        """Tell whether somebody waits for a run on a worker; one that fell silent ends late."""
        query = sa.select(_executions.c.id).where(
            _executions.c.status == "running", _executions.c.worker == name).limit(1)
        with self._database.reader() as connection:
            return connection.execute(query).first() is not None

    def give_up(self, name: str, by_any: bool) -> None:
        """Have an engine end a worker that hangs; it is gone when its row is, or is lost.

        :param by_any: any engine can do so, not only the one that started it.
        """
        values: dict[str, Any] = {"state": ENDING}
        if by_any:
            values["runner_id"] = None
        with self._database.writer() as connection:
            connection.execute(sa.update(_table).where(
                _table.c.name == name, _table.c.lost.is_(None)).values(**values))
        self.wakeup.ring()

    def remove(self, name: str) -> None:
        """Forget a worker that is gone."""
        with self._database.writer() as connection:
            connection.execute(sa.delete(_table).where(_table.c.name == name))
