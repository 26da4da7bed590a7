# SPDX-License-Identifier: Apache-2.0
"""The root of the API and of its one version."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pecan

from qinling_exec.api.aliases import AliasesController
from qinling_exec.api.executions import ExecutionsController
from qinling_exec.api.exposure import JSON, answer
from qinling_exec.api.functions import FunctionsController
from qinling_exec.api.routing import Folder
from qinling_exec.api.runtimes import RuntimesController
from qinling_exec.service import Service


class V1Controller(Folder):
    """/v1."""

    def __init__(self, service: Service) -> None:
        super().__init__({
            "": self.index, "openapi.json": self.openapi,
            "runtimes": RuntimesController(service), "functions": FunctionsController(service),
            "aliases": AliasesController(service), "executions": ExecutionsController(service),
        })
        text = resources.files("qinling_exec.api").joinpath("openapi.json").read_text("utf-8")
        self._openapi = json.loads(text)

    @pecan.expose(content_type=JSON)
    def index(self) -> Any:
        """Tell where the version is; without the slash lead there, as Qinling does."""
        url = f"{pecan.request.application_url}/v1"
        if pecan.request.path_info == "/v1" and pecan.request.method in ("GET", "HEAD"):
            pecan.response.location = f"{url}/"
            return answer({"code": 302, "title": "Found", "description": None}, 302)
        return answer({"uri": url})

    @pecan.expose(content_type=JSON)
    def openapi(self) -> Any:
        """Describe the API."""
        if pecan.request.method not in ("GET", "HEAD"):
            pecan.abort(405, headers={"Allow": "GET, HEAD"})
        return answer(self._openapi)


class RootController(Folder):
    """/."""

    def __init__(self, service: Service) -> None:
        super().__init__({"": self.index, "v1": V1Controller(service)})

    @pecan.expose(content_type=JSON)
    def index(self) -> Any:
        """List the versions of the API."""
        link = {"href": f"{pecan.request.application_url}/v1", "target": "v1", "rel": "self"}
        return answer({"versions": [{"id": "v1.0", "status": "CURRENT", "links": [link]}]})
