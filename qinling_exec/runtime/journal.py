# SPDX-License-Identifier: Apache-2.0
"""The worker's own log on standard error: lines of text, or JSON with the names of oslo.log."""

from __future__ import annotations

import json
import logging
from typing import Any

#: Environment variable that says how; ``json``, or anything else for text.
VARIABLE = "QINLING_RUNTIME_LOG"


def install(how: str) -> None:
    """Begin to write."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if how == "json" else _Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def of_request(request: dict[str, Any]) -> dict[str, Any]:
    """Return what goes with a line about a run: the ids of the request that asked for it."""
    ids = {name: request.get(name) for name in ("request_id", "global_request_id")}
    return {"context": {name: value for name, value in ids.items() if value}}


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s worker[%(process)d] %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        ids = " ".join(map(str, getattr(record, "context", {}).values()))
        record.message = f"{ids}: {record.message}" if ids else record.message
        return super().formatMessage(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"asctime": self.formatTime(record), "process": record.process,
                "levelname": record.levelname, "name": record.name,
                "message": record.getMessage(), "context": getattr(record, "context", {})}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info).splitlines()
        return json.dumps(line)
