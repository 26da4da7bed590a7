# SPDX-License-Identifier: Apache-2.0
"""The database's clock: the one that all processes share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[datetime]):
    """The current UTC time with microseconds, as columns of type Time hold it."""

    inherit_cache = True
    type = sa.DateTime()


@compiles(now)
def _compile_now(_element: now, compiler: Any, **_options: Any) -> str:
    return {
        "sqlite": "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')",
        "postgresql": "timezone('utc', clock_timestamp())",
    }.get(compiler.dialect.name, "UTC_TIMESTAMP(6)")


def read(connection: sa.Connection) -> datetime:
    """Ask the database for its time."""
    value: datetime = connection.execute(sa.select(now())).scalar_one()
    return value
