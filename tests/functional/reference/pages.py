# SPDX-License-Identifier: Apache-2.0
"""The pages of the reference, read as far as they can be compared."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

SOURCE = Path(__file__).parents[3] / "api-ref" / "source"
_DIRECTIVE = r"^\.\. {}\n\n((?:   .*\n)+)"


@dataclass(frozen=True)
class Page:
    """What the reference tells of one operation; parameters by where they are."""

    method: str
    path: str
    codes: set[int]
    request: dict[str, set[str]]
    reply: dict[str, set[str]]


@functools.cache
def pages() -> dict[tuple[str, str], Page]:
    """Return the pages by method and path."""
    found = {}
    for name in included():
        for text in (SOURCE / name).read_text("utf-8").split(".. rest_method:: ")[1:]:
            page = _page(text)
            assert (page.method, page.path) not in found, f"{page.method} {page.path} twice"
            found[page.method, page.path] = page
    return found


def included() -> list[str]:
    """Return the files that the reference is made of."""
    return re.findall(r"^\.\. include:: (\S+)$", (SOURCE / "index.rst").read_text("utf-8"), re.M)


def shown_samples() -> set[str]:
    """Return the samples that the reference shows."""
    texts = [(SOURCE / name).read_text("utf-8") for name in ["index.rst", *included()]]
    return set(re.findall(r"^\.\. literalinclude:: samples/(\S+)$", "\n".join(texts), re.M))


@functools.cache
def defined() -> dict[str, dict[str, str]]:
    """Return the parameters that the pages can refer to."""
    found = yaml.safe_load((SOURCE / "parameters.yaml").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def referred() -> set[str]:
    """Return the parameters that the pages do refer to."""
    texts = [(SOURCE / name).read_text("utf-8") for name in included()]
    return {key for text in texts for _, key in _parameters(text)}


def _page(text: str) -> Page:
    method, path = text.partition("\n")[0].split()
    codes = re.findall(_DIRECTIVE.format(r"rest_status_code:: \w+ status\.yaml"), text, re.M)
    numbers = {int(found) for part in codes for found in re.findall(r"- (\d+)", part)}
    request, _, reply = text.partition("\nResponse\n~~~~~~~~\n")
    return Page(method, path, numbers, _by_place(request), _by_place(reply))


def _by_place(text: str) -> dict[str, set[str]]:
    known = defined()
    found: dict[str, set[str]] = {"header": set(), "path": set(), "query": set(), "body": set()}
    for name, key in _parameters(text):
        found[known[key]["in"]].add(name)
    return found


def _parameters(text: str) -> list[tuple[str, str]]:
    parts = re.findall(_DIRECTIVE.format(r"rest_parameters:: parameters\.yaml"), text, re.M)
    return [(name, key) for part in parts for name, key in re.findall(r"- (\S+): (\S+)", part)]
