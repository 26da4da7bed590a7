# SPDX-License-Identifier: Apache-2.0
"""Reads the recorded exchanges."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "fixtures" / "qinling-5.0.0.jsonl"
CUT = re.compile(r"…\[cut, \d+ characters\]")
_MIB = 1024 * 1024
# Bodies that the file has only the beginning of; what they were is clear from it.
_WHOLE = {
    "execution.create.input.1MiB": _MIB,
    "execution.create.input.10MB.async": 10 * 1000 * 1000,
}


@dataclass(frozen=True)
class Exchange:
    """One request and its reply."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    reply_headers: dict[str, str]
    reply_bytes: bytes
    note: str

    @property
    def text(self) -> str:
        """The reply's body as text."""
        return self.reply_bytes.decode("utf8", "replace")

    @property
    def cut(self) -> bool:
        """Tell whether the file has only the beginning of the reply."""
        return CUT.search(self.text) is not None

    @property
    def json(self) -> Any:
        """The reply's body, None when it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


def _build(row: dict[str, Any]) -> Exchange:
    return Exchange(
        row["name"], row["method"], row["path"], dict(row["request_headers"] or []), _body(row),
        row["status"], {name.lower(): value for name, value in row["response_headers"]},
        _bytes(row, "response_body"), row.get("note") or "",
    )


def _bytes(row: dict[str, Any], name: str) -> bytes:
    if name + "_b64" in row:
        return base64.b64decode(row[name + "_b64"])
    return (row.get(name) or "").encode()


def _body(row: dict[str, Any]) -> bytes:
    body = _bytes(row, "request_body")
    if row["name"] in _WHOLE:
        start = body.decode().partition("x")[0]
        pad = "x" * (_WHOLE[row["name"]] - 11)  # {"pad": ""} are the other eleven
        return (start + pad + '\\"}"}').encode()
    if CUT.search(body.decode("utf8", "replace")):
        raise ValueError(f"{row['name']}: only the beginning of its body is known")
    if dict(row["request_headers"] or []).get("Transfer-Encoding") == "chunked":
        # Recorded as it went over the wire; the client of the test does that itself.
        return b"".join(line for line in body.split(b"\r\n") if line.startswith(b"{"))
    return body


def read() -> list[Exchange]:
    """Return all exchanges in the order of the calls."""
    with FILE.open(encoding="utf8") as lines:
        return [_build(json.loads(line)) for line in lines]
