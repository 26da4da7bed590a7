# SPDX-License-Identifier: Apache-2.0
"""Fills a database with ended executions of a skewed kind, as fast as it takes them."""

from __future__ import annotations

import pathlib
import random
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from qinling_exec.db import models

TABLE = models.Execution.__table__
COLUMNS = ("id", "project_id", "function_id", "function_version", "status", "sync",
           "created_at", "updated_at", "started_at", "finished_at", "attempts", "request_id")
BEGIN = datetime(2026, 1, 1)
#: Milliseconds between two executions.
STEP = 500
LARGE, SMALL = "a" * 32, "b" * 32
#: 60 % of all rows; 5 % (all of them); a handful; none.
HOT, WARM, RARE, NONE = (f"{n}0000000-0000-4000-8000-000000000000" for n in (1, 2, 3, 4))


def generate(rows: int, seed: int = 1) -> Iterator[tuple[Any, ...]]:
    """Yield rows in the order of their ids, which says nothing about their age.

    Project LARGE has nine of ten. Of its executions one in 250,000 is an ``error``, three in
    100 are ``failed``; a hundredth of all rows share one creation time.
    """
    chance = random.Random(seed)
    many = 0x9E3779B1 % rows | 1
    while _common(many, rows):
        many += 2
    tie = rows // 2
    for number in range(rows):
        age = number * many % rows
        if tie <= age < tie + rows // 100:
            age = tie
        created = BEGIN + timedelta(milliseconds=age * STEP, microseconds=age % 977)
        ended = created + timedelta(milliseconds=20)
        dice = chance.random()
        project = LARGE if dice < 0.9 else SMALL if dice < 0.95 else f"{int(dice * 10**6):032}"
        status, pick = "success", chance.random()
        if age % 250_000 == 7:
            project, status = LARGE, "error"
        elif pick < 0.03:
            status = "failed"
        elif pick < 0.031:
            status = "cancelled"
        elif pick < 0.0311:
            status = "running"
        where = chance.random()
        function = HOT if where < 0.6 else WARM if where < 0.65 else (
            f"5{int(where * 5000):07}-0000-4000-8000-000000000000")
        if function == HOT and project != SMALL:  # a function is run by a project or two
            project = LARGE
        if age % 500_000 == 11:
            project, function = SMALL, RARE
        bits = number * (2**128 // rows) + chance.getrandbits(96)
        text = f"{bits:032x}"
        row_id = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"
        yield (row_id, project, function, 0, status, 1, str(created), str(ended),
               str(created), str(ended) if status != "running" else None, 1, f"req-{row_id}")


def _common(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a != 1


def load(engine: sa.Engine, rows: int) -> None:
    """Put rows into the empty table; its indexes are made afterwards."""
    with engine.begin() as connection:
        for index in TABLE.indexes:
            index.drop(connection)
    connection = engine.raw_connection()
    cursor = connection.cursor()
    if engine.dialect.name == "sqlite":
        cursor.execute("BEGIN")
        marks = ", ".join("?" * len(COLUMNS))
        cursor.executemany(
            f"INSERT INTO executions ({', '.join(COLUMNS)}) VALUES ({marks})", generate(rows))
    else:
        with tempfile.TemporaryDirectory(prefix="qinling-rows-") as folder:
            path = pathlib.Path(folder) / "rows"
            with path.open("w") as file:
                for row in generate(rows):
                    file.write("\t".join("\\N" if value is None else str(value)
                                         for value in row) + "\n")
            _copy(engine, cursor, path)
    connection.commit()
    connection.close()
    with engine.begin() as begun:
        for index in TABLE.indexes:
            index.create(begun)
    with engine.connect() as analysing:
        analysing.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
            {"sqlite": "PRAGMA optimize", "postgresql": "VACUUM ANALYZE executions"}.get(
                engine.dialect.name, "ANALYZE TABLE executions"))


def _copy(engine: sa.Engine, cursor: Any, path: pathlib.Path) -> None:
    columns = ", ".join(COLUMNS)
    if engine.dialect.name == "postgresql":
        command = f"COPY executions ({columns}) FROM STDIN"
        with path.open("rb") as file:
            if hasattr(cursor, "copy_expert"):
                cursor.copy_expert(command, file)
            else:
                with cursor.copy(command) as copy:
                    while block := file.read(1 << 20):
                        copy.write(block)
    else:
        cursor.execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE executions ({columns})")
