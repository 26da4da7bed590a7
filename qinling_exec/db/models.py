# SPDX-License-Identifier: Apache-2.0
"""The tables, written for SQLite, PostgreSQL and MariaDB alike."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qinling_exec.db.engine import utcnow

#: UTC without a zone, to the microsecond.
Time = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
#: Bytes without a length that a user would meet: 4 GiB on MariaDB.
Bytes = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


#: What a column of type Integer holds.
LARGEST_INTEGER = 2**31 - 1


def new_id() -> str:
    """Return a new uuid in its canonical text form."""
    return str(uuid.uuid4())


class Base(DeclarativeBase):
    """Names every constraint, and compares text byte by byte on MariaDB as the others do."""

    metadata = sa.MetaData(naming_convention=_NAMING)
    if TYPE_CHECKING:
        __table__: ClassVar[sa.Table]
    __table_args__: tuple[object, ...] = ()

    def __init_subclass__(cls, **kwargs: object) -> None:
        engine = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin",
                  "mysql_engine": "InnoDB"}
        cls.__table_args__ = (*cls.__table_args__, engine)
        super().__init_subclass__(**kwargs)



class Owned:
    """Columns of everything that belongs to a project."""

    id: Mapped[str] = mapped_column(sa.String(36), primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(sa.String(80))
    created_at: Mapped[datetime] = mapped_column(Time, default=utcnow)
    updated_at: Mapped[datetime | None] = mapped_column(Time)


class Runtime(Owned, Base):
    """An environment that functions run in."""

    __tablename__ = "runtimes"

    name: Mapped[str | None] = mapped_column(sa.String(255))
    description: Mapped[str | None] = mapped_column(sa.String(255))
    image: Mapped[str] = mapped_column(sa.String(255))
    status: Mapped[str] = mapped_column(sa.String(32))
    status_reason: Mapped[str | None] = mapped_column(sa.String(255))
    is_public: Mapped[bool] = mapped_column(default=True)
    trusted: Mapped[bool] = mapped_column(default=True)
    #: What the engine last saw of the pool; the API has no rights to look itself.
    pool_total: Mapped[int] = mapped_column(sa.Integer, default=0)
    pool_available: Mapped[int] = mapped_column(sa.Integer, default=0)

    __table_args__ = (sa.Index(None, "created_at", "id"),)


class Package(Base):
    """A stored package; the row is what functions and versions hold on to."""

    __tablename__ = "packages"

    sha256: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    md5: Mapped[str] = mapped_column(sa.String(32))
    size: Mapped[int] = mapped_column(sa.BigInteger)


class Function(Owned, Base):
    """What is run: a package and its entry, or an image."""

    __tablename__ = "functions"

    name: Mapped[str | None] = mapped_column(sa.String(255))
    description: Mapped[str | None] = mapped_column(sa.String(255))
    runtime_id: Mapped[str | None] = mapped_column(sa.ForeignKey("runtimes.id"))
    cpu: Mapped[int] = mapped_column(sa.Integer)
    memory_size: Mapped[int] = mapped_column(sa.BigInteger)
    timeout: Mapped[int] = mapped_column(sa.Integer)
    code: Mapped[str] = mapped_column(sa.Text)
    entry: Mapped[str | None] = mapped_column(sa.String(80))
    count: Mapped[int] = mapped_column(sa.Integer, default=0)
    latest_version: Mapped[int] = mapped_column(sa.Integer, default=0)
    package: Mapped[str | None] = mapped_column(sa.ForeignKey("packages.sha256"), index=True)
    #: How often an execution may be begun when the service fails it.
    max_attempts: Mapped[int] = mapped_column(sa.Integer, default=1, server_default="1")
    #: Whether it may also be begun again when the function fails.
    retry_on_failure: Mapped[bool] = mapped_column(default=False, server_default=sa.false())

    __table_args__ = (
        sa.Index(None, "project_id", "created_at", "id"),
        sa.Index(None, "created_at", "id"),
        sa.Index(None, "runtime_id"),
    )


class FunctionVersion(Owned, Base):
    """A package of a function, kept as it was."""

    __tablename__ = "function_versions"

    function_id: Mapped[str] = mapped_column(sa.ForeignKey("functions.id", ondelete="CASCADE"))
    description: Mapped[str | None] = mapped_column(sa.String(255))
    version_number: Mapped[int] = mapped_column(sa.Integer)
    count: Mapped[int] = mapped_column(sa.Integer, default=0)
    package: Mapped[str] = mapped_column(sa.ForeignKey("packages.sha256"), index=True)

    __table_args__ = (sa.UniqueConstraint("function_id", "version_number"),)


class FunctionAlias(Owned, Base):
    """A name of a project's own for a function and a version of it."""

    __tablename__ = "function_aliases"

    name: Mapped[str] = mapped_column(sa.String(255))
    description: Mapped[str | None] = mapped_column(sa.String(255))
    function_id: Mapped[str] = mapped_column(sa.ForeignKey("functions.id"))
    function_version: Mapped[int] = mapped_column(sa.Integer, default=0)

    __table_args__ = (
        sa.UniqueConstraint("project_id", "name"),
        sa.UniqueConstraint("project_id", "function_id", "function_version"),
        sa.Index(None, "created_at", "id"),
        sa.Index(None, "function_id"),
    )


class Runner(Base):
    """A process that runs executions; dead when its heartbeat is older than the lease."""

    __tablename__ = "runners"

    id: Mapped[str] = mapped_column(sa.String(36), primary_key=True, default=new_id)
    host: Mapped[str] = mapped_column(sa.String(255))
    pid: Mapped[int] = mapped_column(sa.Integer)
    started_at: Mapped[datetime] = mapped_column(Time)
    heartbeat_at: Mapped[datetime] = mapped_column(Time)


class Worker(Base):
    """A warm runtime bound to one version of a function."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(sa.String(80), primary_key=True)
    function_id: Mapped[str] = mapped_column(sa.String(36))
    function_version: Mapped[int] = mapped_column(sa.Integer)
    #: Of all that shapes a worker; one that differs from its function's is outdated.
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    state: Mapped[str] = mapped_column(sa.String(16))
    #: The engine that starts and ends it.
    runner_id: Mapped[str | None] = mapped_column(sa.String(36), index=True)
    address: Mapped[str | None] = mapped_column(sa.String(255))
    secret: Mapped[str | None] = mapped_column(sa.String(128))
    room: Mapped[int] = mapped_column(sa.Integer)
    #: Why it is none any more, for those whose runs it took along.
    lost: Mapped[str | None] = mapped_column(sa.String(255))
    created_at: Mapped[datetime] = mapped_column(Time, default=utcnow)

    __table_args__ = (sa.Index(None, "function_id", "function_version"),)


class Execution(Owned, Base):
    """One run of a function. Its input, result and log have tables of their own, so that
    claims and filters read small rows.
    """

    __tablename__ = "executions"

    #: Without a foreign key: the record outlives its function.
    function_id: Mapped[str] = mapped_column(sa.String(36))
    function_version: Mapped[int] = mapped_column(sa.Integer, default=0)
    function_alias: Mapped[str | None] = mapped_column(sa.String(255))
    description: Mapped[str | None] = mapped_column(sa.String(255))
    status: Mapped[str] = mapped_column(sa.String(32))
    sync: Mapped[bool] = mapped_column(default=True)
    request_id: Mapped[str | None] = mapped_column(sa.String(64))
    #: The one that the caller sent.
    global_request_id: Mapped[str | None] = mapped_column(sa.String(64))
    #: Who runs it; together with attempts the fence of every later write.
    runner_id: Mapped[str | None] = mapped_column(sa.String(36))
    attempts: Mapped[int] = mapped_column(sa.Integer, default=0)
    #: Where it runs, so that others can end it there.
    worker: Mapped[str | None] = mapped_column(sa.String(80))
    #: When it may be begun again, by the database's clock.
    retry_at: Mapped[datetime | None] = mapped_column(Time)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Time)
    started_at: Mapped[datetime | None] = mapped_column(Time)
    finished_at: Mapped[datetime | None] = mapped_column(Time)

    __table_args__ = (
        # Lists: qinling_exec.db.listing merges the states of one project, function or all.
        sa.Index(None, "status", "created_at", "id"),
        sa.Index(None, "project_id", "status", "created_at", "id"),
        sa.Index("ix_executions_function", "function_id", "project_id", "status", "created_at",
                 "id"),
        # What is not ended: few rows among millions. MariaDB has no partial indexes. The queue is
        # where there is no runner, each version's oldest first; so what runs is found without it.
        sa.Index(
            "ix_executions_running", "status", "runner_id", "function_id", "function_version",
            "created_at", "id",
            sqlite_where=sa.text("status = 'running'"),
            postgresql_where=sa.text("status = 'running'"),
        ),
    )


class ExecutionInput(Base):
    """What an execution was given, as UTF-8 with lone surrogates let through."""

    __tablename__ = "execution_inputs"

    execution_id: Mapped[str] = mapped_column(
        sa.ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True
    )
    data: Mapped[bytes] = mapped_column(Bytes)


class ExecutionResult(Base):
    """What an execution returned: JSON text."""

    __tablename__ = "execution_results"

    execution_id: Mapped[str] = mapped_column(
        sa.ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True
    )
    data: Mapped[bytes] = mapped_column(Bytes)


class ExecutionLog(Base):
    """A piece of what an execution printed."""

    __tablename__ = "execution_logs"

    execution_id: Mapped[str] = mapped_column(
        sa.ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True
    )
    #: Where in the log the piece begins, in bytes.
    position: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    data: Mapped[bytes] = mapped_column(Bytes)


class IdempotencyKey(Base):
    """A key under which a client may send the same request again."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(sa.String(80), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    #: SHA-256 of what was asked: another request under the key is a mistake.
    request_hash: Mapped[str] = mapped_column(sa.String(64))
    #: Without a foreign key: a deleted execution is not run again.
    execution_id: Mapped[str] = mapped_column(sa.String(36))
    created_at: Mapped[datetime] = mapped_column(Time, default=utcnow, index=True)


class QuotaLock(Base):
    """A row for each project with limits; who holds its lock may count what the project has."""

    __tablename__ = "quota_locks"

    project_id: Mapped[str] = mapped_column(sa.String(80), primary_key=True)
    #: Changed each time: a cluster like Galera notices only what is written.
    taken: Mapped[int] = mapped_column(sa.BigInteger, default=0)
