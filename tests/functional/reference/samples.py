# SPDX-License-Identifier: Apache-2.0
"""The samples of the reference: put to use, and compared with real replies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "api-ref" / "source" / "samples"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: What kinds of text there are; the first that fits is a text's kind.
_KINDS = {
    "uuid": _UUID,
    "request id": re.compile(f"req-{_UUID.pattern}"),
    "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    "exact time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"),
    "md5": re.compile(r"[0-9a-f]{32}"),
    "address": re.compile(r"http://[^\s/]+(/\S*)?"),
    "text": re.compile(r".*", re.DOTALL),
}


class Samples:
    """Reads samples, and remembers which real id stands for which id in them."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def text(self, name: str) -> str:
        """Return a sample as it is written."""
        return (FOLDER / name).read_text("utf-8")

    def json(self, name: str) -> Any:
        """Return what a sample says."""
        return json.loads(self.text(name))

    def place(self, text: str) -> str:
        """Put real ids into a text; ids that no reply has told yet stay."""
        return _UUID.sub(lambda match: self._ids.get(match[0], match[0]), text)

    def compare(self, name: str, real: Any) -> list[str]:
        """Learn ids from a reply, and return in words where its sample has another shape."""
        found: list[str] = []
        self._compare(found, name, self.json(name), real)
        return found

    def _compare(self, found: list[str], where: str, sample: Any, real: Any) -> None:
        if type(sample) is not type(real):
            found.append(f"{where}: {sample!r}, really {real!r}")
        elif isinstance(sample, dict):
            if list(sample) != list(real):
                found.append(f"{where}: {list(sample)}, really {list(real)}")
            for key in sample.keys() & real.keys():
                self._compare(found, f"{where}.{key}", sample[key], real[key])
        elif isinstance(sample, list):
            if len(real) < len(sample):
                found.append(f"{where}: {len(sample)} items, really {len(real)}")
            for index, (one, other) in enumerate(zip(sample, real, strict=False)):
                self._compare(found, f"{where}[{index}]", one, other)
        elif isinstance(sample, str):
            self._compare_texts(found, where, sample, real)

    def _compare_texts(self, found: list[str], where: str, sample: str, real: str) -> None:
        if _kind(sample) != _kind(real):
            found.append(f"{where}: {_kind(sample)} {sample!r}, really {_kind(real)} {real!r}")
        elif _kind(sample) == "uuid":
            # One id in the samples stands for one real id, and the other way round.
            if self._ids.setdefault(sample, real) != real:
                found.append(f"{where}: {sample} stands for {self._ids[sample]}, really {real}")
            if list(self._ids.values()).count(real) > 1:
                found.append(f"{where}: {sample} is another id in other samples")
        elif sample.startswith("{"):  # JSON as text
            self._compare(found, where, json.loads(sample), json.loads(real))


def _kind(text: str) -> str:
    return next(name for name, pattern in _KINDS.items() if pattern.fullmatch(text))
