# SPDX-License-Identifier: Apache-2.0
"""Who may do what: a line for each route of the API that is not open to everybody."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.functional.client import Api
from tests.functional.reference.routes import Route

#: What each role includes; who has less than a line asks for is refused with 403.
LEVELS = {"service": 0, "reader": 1, "member": 2, "manager": 3, "admin": 4}
_names = (f"n{number}" for number in itertools.count())
#: The answer to a list: 200, and nothing of the project in it.
UNSEEN = -200


class Objects:
    """What a project has; made by a member and an administrator of it."""

    def __init__(self, member: Api, admin: Api) -> None:
        self._member = member
        self._admin = admin
        self.runtime = member.runtime()
        self.function = member.function()
        self.execution = member.run(self.function)["id"]
        self.alias = self.new_alias()
        member.ok("POST", f"/v1/functions/{self.function}/versions", 201, json={})

    @property
    def ids(self) -> set[str]:
        """What nobody else may see in a list."""
        return {self.function, self.execution, self.alias}

    def new_function(self) -> str:
        """Make a function and return its id."""
        return self._member.function()

    def new_version(self) -> str:
        """Make a function with a version; return the path of the version."""
        path = f"/v1/functions/{self.new_function()}/versions"
        self._member.ok("POST", path, 201, json={})
        return f"{path}/1"

    def new_alias(self) -> str:
        """Make an alias and return its name."""
        name = next(_names)
        self._member.ok("POST", "/v1/aliases", 201,
                        json={"name": name, "function_id": self.new_function()})
        return name

    def new_execution(self) -> str:
        """Make an execution and return its id."""
        made = self._member.run(self.function)
        return str(made["id"])

    def new_runtime(self) -> str:
        """Make a public runtime and return its id."""
        made = self._admin.ok("POST", "/v1/runtimes", 201, json={"image": "python3"})
        return str(made["id"])


@dataclass(frozen=True)
class Line:
    """What a route answers.

    :param least: the role that is needed.
    :param own: status for who has it, in the project whose object it is.
    :param other: status for who has it in another project.
    :param admin: status for an administrator of another project.
    :param path: makes the path; fresh objects for what is used up.
    :param send: makes the other arguments of the request.
    """

    least: str
    own: int
    other: int
    admin: int
    path: Callable[[Objects], str]
    send: Callable[[Objects], dict[str, Any]] = lambda _: {}


def _json(**body: Any) -> Callable[[Objects], dict[str, Any]]:
    return lambda _: {"json": body}


def _of(template: str) -> Callable[[Objects], str]:
    return lambda objects: template.format(**vars(objects))


_A, _E, _F, _R = "/v1/aliases", "/v1/executions", "/v1/functions", "/v1/runtimes"
_FUNCTION = _of(_F + "/{function}")
_VERSION = _of(_F + "/{function}/versions/1")
_ONE_MORE = _json(count=1)


def _below(path: Callable[[Objects], str], more: str) -> Callable[[Objects], str]:
    return lambda objects: path(objects) + more


LINES: dict[Route, Line] = {
    ("GET", _A): Line("reader", 200, UNSEEN, UNSEEN, _of(_A)),
    ("POST", _A): Line("member", 201, 404, 201, _of(_A), lambda objects: {
        "json": {"name": next(_names), "function_id": objects.new_function()}}),
    ("GET", _A + "/{}"): Line("reader", 200, 404, 404, _of(_A + "/{alias}")),
    ("PUT", _A + "/{}"): Line("member", 200, 404, 404, _of(_A + "/{alias}"),
                              _json(description="d")),
    ("DELETE", _A + "/{}"): Line("member", 204, 404, 404, lambda o: f"{_A}/{o.new_alias()}"),
    ("GET", _E): Line("reader", 200, UNSEEN, UNSEEN, _of(_E)),
    ("POST", _E): Line("member", 201, 404, 201, _of(_E), lambda objects: {
        "json": {"function_id": objects.function, "sync": False}}),
    ("GET", _E + "/{}"): Line("reader", 200, 404, 200, _of(_E + "/{execution}")),
    ("DELETE", _E + "/{}"): Line("member", 204, 404, 204, lambda o: f"{_E}/{o.new_execution()}"),
    # What has ended can't be cancelled, by who may.
    ("POST", _E + "/{}/cancel"): Line("member", 409, 404, 409, _of(_E + "/{execution}/cancel")),
    ("GET", _E + "/{}/log"): Line("reader", 200, 404, 200, _of(_E + "/{execution}/log"),
                                  lambda _: {"headers": {"Accept": "*/*"}}),
    ("GET", _F): Line("reader", 200, UNSEEN, UNSEEN, _of(_F)),
    ("POST", _F): Line("member", 201, 201, 201, _of(_F), lambda objects: {
        "data": {"code": json.dumps({"source": "image", "image": "i"})}}),
    ("GET", _F + "/{}"): Line("reader", 200, 404, 200, _FUNCTION),
    ("PUT", _F + "/{}"): Line("member", 200, 404, 200, _FUNCTION, lambda _: {
        "data": {"description": "d"}}),
    ("DELETE", _F + "/{}"): Line("member", 204, 404, 403, lambda o: f"{_F}/{o.new_function()}"),
    ("POST", _F + "/{}/scale_up"): Line("manager", 202, 404, 202, _below(_FUNCTION, "/scale_up"),
                                        _ONE_MORE),
    ("POST", _F + "/{}/scale_down"): Line("manager", 202, 404, 202,
                                          _below(_FUNCTION, "/scale_down"), _ONE_MORE),
    ("POST", _F + "/{}/detach"): Line("manager", 202, 404, 202, _below(_FUNCTION, "/detach")),
    ("GET", _F + "/{}/workers"): Line("manager", 200, 404, 200, _below(_FUNCTION, "/workers")),
    ("GET", _F + "/{}/versions"): Line("reader", 200, 404, 200, _below(_FUNCTION, "/versions")),
    ("POST", _F + "/{}/versions"): Line(
        "member", 201, 404, 404, lambda o: f"{_F}/{o.new_function()}/versions", _json()),
    ("GET", _F + "/{}/versions/{}"): Line("reader", 200, 404, 200, _VERSION),
    ("DELETE", _F + "/{}/versions/{}"): Line("member", 204, 404, 404, Objects.new_version),
    ("POST", _F + "/{}/versions/{}/scale_up"): Line(
        "manager", 202, 404, 202, _below(_VERSION, "/scale_up"), _ONE_MORE),
    ("POST", _F + "/{}/versions/{}/scale_down"): Line(
        "manager", 202, 404, 202, _below(_VERSION, "/scale_down"), _ONE_MORE),
    ("POST", _F + "/{}/versions/{}/detach"): Line(
        "manager", 202, 404, 202, _below(_VERSION, "/detach")),
    ("GET", _R): Line("reader", 200, 200, 200, _of(_R)),
    ("POST", _R): Line("admin", 201, 201, 201, _of(_R), _json(image="python3")),
    ("GET", _R + "/{}"): Line("reader", 200, 200, 200, _of(_R + "/{runtime}")),
    ("PUT", _R + "/{}"): Line("admin", 200, 200, 200, _of(_R + "/{runtime}"),
                              _json(description="d")),
    ("DELETE", _R + "/{}"): Line("admin", 204, 204, 204, lambda o: f"{_R}/{o.new_runtime()}"),
    ("GET", _R + "/{}/pool"): Line("admin", 200, 200, 200, _of(_R + "/{runtime}/pool")),
}
