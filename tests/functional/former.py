# SPDX-License-Identifier: Apache-2.0
"""A database of the published Qinling 5.0.0, made by its own program and filled."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.functional import environments
from tests.functional.client import make_zip

#: SQLAlchemy and oslo.db as they were when it was written.
QINLING = ("qinling", "qinling==5.0.0", "setuptools<81", "SQLAlchemy<2", "oslo.db<12",
           "psycopg2-binary", "PyMySQL")
_DRIVERS = {"postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql"}
MADE = datetime(2021, 5, 6, 7, 8, 9)
CODE = "def main(name='World', **kwargs):\n    return 'Hello, %s' % name\n"


class Former:
    """A Qinling that somebody has used.

    :param url: an empty database.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.packages = folder / "packages"
        parsed = sa.make_url(url)
        parsed = parsed.set(drivername=_DRIVERS[parsed.get_backend_name()])
        config = folder / "qinling.conf"
        config.write_text(
            f"[database]\nconnection = {parsed.render_as_string(hide_password=False)}\n")
        program = environments.ready(*QINLING) / "qinling-db-manage"
        subprocess.run([program, "--config-file", config, "upgrade", "head"], check=True,
                       capture_output=True, timeout=120)
        self._engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
        self._tables = sa.MetaData()
        self._tables.reflect(self._engine)

    def add(self, table: str, number: int, project: str = "ours", **values: Any) -> str:
        """Add a row; return its id."""
        name = f"{number:08d}-0000-4000-8000-{len(table):012d}"
        if table == "executions":
            values.setdefault("function_version", 0)
        with self._engine.begin() as connection:
            connection.execute(sa.insert(self._tables.tables[table]).values(
                id=name, project_id=project, created_at=MADE, **values))
        return name

    def add_executions(self, count: int, **values: Any) -> None:
        """Add many executions, with ids that rise."""
        rows = [{"id": f"{number:08d}-0000-4000-8000-000000000000", "project_id": "ours",
                 "created_at": MADE, "function_version": 0, **values} for number in range(count)]
        with self._engine.begin() as connection:
            connection.execute(sa.insert(self._tables.tables["executions"]), rows)

    def package(self, project: str, *names: str | int, code: str = CODE) -> str:
        """Store a package as Qinling does; return its checksum."""
        content = make_zip({"main.py": code})
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        (self.packages / project).mkdir(parents=True, exist_ok=True)
        file = "_".join([*map(str, names), md5])
        (self.packages / project / f"{file}.zip").write_bytes(content)
        return md5

    def function(self, number: int, runtime: str | None, **values: Any) -> str:
        """Add a function with its package."""
        function = self.add("functions", number, **{
            "name": "f", "runtime_id": runtime, "entry": "main.main", "cpu": 100,
            "memory_size": 33554432, "timeout": 5, "count": 3, "latest_version": 0, "code": "{}",
            **values})
        if "code" not in values:
            code = {"source": "package", "md5sum": self.package("ours", function)}
            with self._engine.begin() as connection:
                table = self._tables.tables["functions"]
                connection.execute(sa.update(table).where(table.c.id == function).values(
                    code=json.dumps(code)))
        return function

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows of all tables."""
        with self._engine.connect() as connection:
            return {name: sorted(map(tuple, connection.execute(sa.select(table)).all()), key=repr)
                    for name, table in self._tables.tables.items()}
