# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document, and whether a request or a reply is as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

import qinling_exec.api

FILE = Path(qinling_exec.api.__file__).with_name("openapi.json")
METHODS = ("get", "post", "put", "patch", "delete", "head")
_NAME = "urn:openapi"


@dataclass(frozen=True)
class Operation:
    """One operation, with what it refers to put in."""

    id: str
    method: str
    path: str
    parameters: list[dict[str, Any]]
    bodies: dict[str, str]  # content type -> JSON pointer of its schema
    replies: dict[int, dict[str, Any]]

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is for this operation."""
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(self.path))
        return method == self.method and re.fullmatch(pattern, path) is not None

    def names(self, place: str) -> set[str]:
        """Return the names of its parameters in the path, the query or the header."""
        return {item["name"] for item in self.parameters if item["in"] == place}


class Document:
    """The document that the service ships."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        resource = DRAFT202012.create_resource(content)
        self._registry: Registry[Any] = Registry().with_resource(_NAME, resource)
        self.operations = list(self._operations())

    def of(self, method: str, url: str) -> Operation:
        """Return the operation that a request is for."""
        path = urlsplit(url).path
        found = [item for item in self.operations if item.matches(method, path)]
        # A path without a variable wins, as OpenAPI has it.
        found.sort(key=lambda item: item.path.count("{"))
        assert found, f"{method} {path} is not in the document"
        return found[0]

    def check_request(self, method: str, url: str, kind: str = "", body: Any = None) -> None:
        """Hold a request to the document."""
        operation = self.of(method, url)
        known = {item["name"]: item for item in operation.parameters if item["in"] == "query"}
        for name, text in parse_qsl(urlsplit(url).query, keep_blank_values=True):
            assert name in known, f"{operation.id}: the argument {name} is not in the document"
            self._check(known[name]["schema"], _typed(known[name]["schema"], text), name)
        assert bool(kind) == bool(operation.bodies), f"{operation.id}: the document has a body"
        if kind:
            assert kind in operation.bodies, f"{operation.id} does not take {kind}"
            self._check({"$ref": f"{_NAME}#{operation.bodies[kind]}"}, body, operation.id)

    def check_reply(self, reply: requests.Response) -> None:
        """Hold a reply to the document: its status, headers, content type and body."""
        assert reply.request.method and reply.request.url
        operation = self.of(reply.request.method, reply.request.url)
        where = f"{operation.id}, {reply.status_code}"
        assert reply.status_code in operation.replies, f"{where}: not in the document"
        wanted = operation.replies[reply.status_code]
        for name, header in wanted["headers"].items():
            header = self.resolve(header)
            assert name in reply.headers or not header.get("required"), f"{where}: no {name}"
            if name in reply.headers and header["schema"].get("type") != "integer":
                self._check(header["schema"], reply.headers[name], name)
        kind = reply.headers.get("Content-Type", "").partition(";")[0]
        if "content" not in wanted:
            assert (kind, reply.content) == ("", b""), f"{where}: a body of {kind!r}"
            return
        assert kind in wanted["content"], f"{where}: {kind!r} is not in the document"
        if kind == "application/json":
            self._check(wanted["content"][kind]["schema"], reply.json(), where)

    def properties(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the members of a schema, those of the objects in its lists too."""
        schema = self.resolve(schema)
        found = dict(schema.get("properties", {}))
        for item in schema.get("properties", {}).values():
            if item.get("type") == "array":
                found |= self.properties(item["items"])
        return found

    def resolve(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return what an item refers to, or itself."""
        while "$ref" in item:
            item = self._at(item["$ref"].removeprefix("#"))
        return item

    def _at(self, pointer: str) -> Any:
        found: Any = self.content
        for part in pointer.split("/")[1:]:
            found = found[part.replace("~1", "/").replace("~0", "~")]
        return found

    def _operations(self) -> Iterator[Operation]:
        for path, item in self.content["paths"].items():
            for method in METHODS:
                if method in item:
                    yield self._operation(path, method, item[method])

    def _operation(self, path: str, method: str, item: dict[str, Any]) -> Operation:
        where = f"/paths/{path.replace('/', '~1')}/{method}/requestBody/content/"
        kinds = item.get("requestBody", {}).get("content", {})
        return Operation(
            item["operationId"], method.upper(), path,
            [self.resolve(one) for one in item.get("parameters", [])],
            {kind: f"{where}{kind.replace('/', '~1')}/schema" for kind in kinds},
            {int(code): self.resolve(one) for code, one in item["responses"].items()},
        )

    def _check(self, schema: dict[str, Any], value: Any, where: str) -> None:
        """Check a value against a schema; the document's own references count from its root."""
        text = json.dumps(schema).replace('"#/', f'"{_NAME}#/')
        validator = Draft202012Validator(json.loads(text), registry=self._registry,
                                         format_checker=FormatChecker())
        wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
        assert not wrong, f"{where}: {wrong}"


def load() -> Document:
    """Read the document out of the package."""
    return Document(json.loads(FILE.read_text("utf-8")))


def _typed(schema: dict[str, Any], text: str) -> Any:
    """Return an argument's text as its schema has it."""
    if schema.get("type") == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return int(text) if schema.get("type") == "integer" and text.isdigit() else text
