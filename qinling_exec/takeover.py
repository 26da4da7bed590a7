# SPDX-License-Identifier: Apache-2.0
"""What a database of Qinling 5.0.0 has, brought over into this service's."""

from __future__ import annotations

import json
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exc

from qinling_exec import exceptions
from qinling_exec.catalogue import runtimes
from qinling_exec.catalogue.packages import Incoming
from qinling_exec.catalogue.storage import Storage
from qinling_exec.db import connections, models
from qinling_exec.db.engine import Database
from qinling_exec.executions import states

_KINDS = ("runtimes", "functions", "function_versions", "function_aliases", "executions")
_PAGE = 500
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql",
            "mariadb": "mariadb+pymysql"}
_UNKNOWN_END = "It was running in Qinling when it was brought over: how it ended is not known."

Row = dict[str, Any]


class Left(Exception):
    """An object can't come over; the text says why."""


@dataclass
class Report:
    """What was done, by kind of object."""

    brought: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    left: list[tuple[str, str, str]] = field(default_factory=list)


def open_source(url: str) -> sa.Engine:
    """Return an engine for the former database; nothing in it can be changed through it.

    :raises qinling_exec.exceptions.InputError: it is no URL, or no Qinling database is there.
    """
    try:
        parsed = connections.read_url(url)
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
        engine = sa.create_engine(parsed, isolation_level="REPEATABLE READ"
                                  if parsed.get_backend_name() != "sqlite" else None)
        with engine.connect() as connection:
            missing = set(_KINDS) - set(sa.inspect(connection).get_table_names())
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).partition("\n")[0]
        raise exceptions.InputError(f"The former database can't be read: {reason}") from error
    if missing:
        raise exceptions.InputError(
            f"That is no database of Qinling 5.0.0: the tables {', '.join(sorted(missing))} are"
            " not there.")
    return engine


class Takeover:
    """Brings everything over, object by object; what is there already is not touched.

    :param packages: Qinling's folder of packages (its option ``[storage] file_system_dir``).
    :param defaults: cpu, memory_size and timeout for functions that have none.
    :param tell: called with a line of progress now and then.
    """

    def __init__(self, source: sa.Engine, database: Database, storage: Storage, *,
                 packages: pathlib.Path | None, defaults: dict[str, int], dry_run: bool,
                 tell: Callable[[str], None]) -> None:
        self._source = source
        self._database = database
        self._storage = storage
        self._packages = packages
        self._defaults = defaults
        self._dry_run = dry_run
        self._tell = tell
        self._known: dict[str, set[str]] = {kind: set() for kind in _KINDS}

    def run(self) -> Report:
        """Bring over what can come. Interrupted, it goes on where it was when run again."""
        report = Report()
        for kind in _KINDS:
            for rows in self._pages(kind):
                self._take(kind, rows, report)
                self._tell(f"{kind}: {report.brought[kind]} to bring over,"
                           f" {report.there[kind]} there already")
        return report

    def _pages(self, kind: str) -> Iterator[list[Row]]:
        """Read a table in pages, in the order of ids."""
        with self._source.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            table = sa.Table(kind, sa.MetaData(), autoload_with=connection)
            last = ""
            while True:
                query = sa.select(table).where(table.c.id > last).order_by(table.c.id)
                rows = [dict(row._mapping) for row in connection.execute(query.limit(_PAGE))]
                if not rows:
                    return
                yield rows
                last = rows[-1]["id"]

    def _take(self, kind: str, rows: list[Row], report: Report) -> None:
        table = models.Base.metadata.tables[kind]
        with self._database.reader() as connection:
            there = set(connection.execute(
                sa.select(table.c.id).where(table.c.id.in_([row["id"] for row in rows]))
            ).scalars())
        for row in rows:
            if row["id"] in there:
                report.there[kind] += 1
            else:
                try:
                    self._bring(kind, row)
                except (Left, exceptions.ServiceError) as error:
                    report.left.append((kind, row["id"], str(error)))
                    continue
                report.brought[kind] += 1
            self._known[kind].add(row["id"])

    def _bring(self, kind: str, row: Row) -> None:
        if not row["project_id"]:
            raise Left("It belongs to no project.")
        package = None
        try:
            if kind in ("functions", "function_versions"):
                package = self._package(kind, row)
            values = getattr(self, f"_{kind}")(row, package)
            if not self._dry_run:
                self._store(kind, row, values, package)
        except db_exc.DBDuplicateEntry as error:
            raise Left("Another object has its name or its number already.") from error
        finally:
            if package is not None:
                package.discard()

    def _store(self, kind: str, row: Row, values: Row, package: Incoming | None) -> None:
        common = {name: row[name] for name in ("id", "project_id", "created_at", "updated_at")}
        with self._storage.undone_on_failure(package), self._database.writer() as connection:
            if package is not None:
                values["package"] = self._storage.keep(connection, package)
            connection.execute(sa.insert(models.Base.metadata.tables[kind]), {**common, **values})
            if kind == "executions":
                for table, data in _parts(row):
                    connection.execute(sa.insert(table), {"execution_id": row["id"], **data})

    def _runtimes(self, row: Row, _package: None) -> Row:
        if row["status"] == runtimes.DELETING:
            raise Left("It was being deleted.")
        # The engine makes its workers, as for a new one.
        return {"status": runtimes.CREATING, "is_public": bool(row["is_public"]),
                "trusted": bool(row["trusted"]), **_same(row, "name", "description", "image")}

    def _functions(self, row: Row, package: Incoming | None) -> Row:
        if row["runtime_id"] and row["runtime_id"] not in self._known["runtimes"]:
            raise Left(f"Its runtime {row['runtime_id']} did not come over.")
        code = _object(row["code"])
        if package is not None:
            code["md5sum"] = package.md5
        limits = {name: row[name] or usual for name, usual in self._defaults.items()}
        return {"code": json.dumps(code), "count": row["count"] or 0, **limits,
                "latest_version": row["latest_version"] or 0,
                **_same(row, "name", "description", "runtime_id", "entry")}

    def _function_versions(self, row: Row, _package: Incoming | None) -> Row:
        self._require_function(row)
        return {"count": row["count"] or 0,
                **_same(row, "function_id", "description", "version_number")}

    def _function_aliases(self, row: Row, _package: None) -> Row:
        self._require_function(row)
        return {"function_version": row["function_version"] or 0,
                **_same(row, "name", "description", "function_id")}

    def _executions(self, row: Row, _package: None) -> Row:
        running = row["status"] == states.RUNNING
        if not running and row["status"] not in states.ENDED:
            raise Left(f"Its status {row['status']!r} is unknown.")
        return {"status": states.ERROR if running else row["status"], "sync": bool(row["sync"]),
                "function_version": row["function_version"] or 0, "attempts": 1,
                "function_id": row["function_id"] or "",
                "finished_at": row["updated_at"] or row["created_at"],
                **_same(row, "function_alias", "description")}

    def _require_function(self, row: Row) -> None:
        if row["function_id"] not in self._known["functions"]:
            raise Left(f"Its function {row['function_id']} did not come over.")

    def _package(self, kind: str, row: Row) -> Incoming | None:
        """Read the package of a function or version; None for a function of an image."""
        code = _object(row.get("code"))
        if kind == "functions":
            if code.get("source") == "image":
                return None
            if code.get("source") != "package":
                raise Left(f"Functions of the source {code.get('source')!r} are not supported.")
            pattern = f"{row['id']}_{code.get('md5sum')}.zip"
        else:
            self._require_function(row)
            pattern = f"{row['function_id']}_{row['version_number']}_*.zip"
        md5sum = code.get("md5sum") if kind == "functions" else None
        if self._packages is None:
            raise Left("Its package was not looked for: name Qinling's folder with --packages.")
        # A name is a name, and no way out of the folder.
        folder = self._packages / pathlib.PurePath(row["project_id"]).name
        found = sorted(folder.glob(pathlib.PurePath(pattern).name))
        if not found:
            raise Left(f"Its package {row['project_id']}/{pattern} is not there.")
        package = self._storage.store.receive()
        try:
            with found[0].open("rb") as file:
                while data := file.read(1024 * 1024):
                    package.write(data)
            self._storage.check(package, md5sum)
        except BaseException:
            package.discard()
            raise
        return package


def _same(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


def _object(text: str | None) -> Row:
    value = json.loads(text or "{}")
    return value if isinstance(value, dict) else {}


def _parts(row: Row) -> Iterator[tuple[sa.Table, Row]]:
    """Yield the input, the result and the log of an execution, where it has them."""
    given = json.loads(row["input"]) if row["input"] else None
    if given is not None:
        if isinstance(given, dict) and isinstance(given.get("__function_input"), str):
            text = given["__function_input"]
        else:
            text = json.dumps(given)
        yield models.ExecutionInput.__table__, {"data": text.encode("utf-8", "surrogatepass")}
    result = _object(row["result"]) if row["result"] else None
    if row["status"] == states.RUNNING:
        result = {"output": _UNKNOWN_END}
    if result is not None:
        yield models.ExecutionResult.__table__, {"data": json.dumps(result).encode()}
    if row["logs"]:
        yield models.ExecutionLog.__table__, {
            "position": 0, "data": row["logs"].encode("utf-8", "replace")}
