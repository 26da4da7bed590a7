# SPDX-License-Identifier: Apache-2.0
"""Forms on their way to a controller."""

from __future__ import annotations

import pytest

from qinling_exec.api.body import BodyGuard
from qinling_exec.api.faults import Faults
from qinling_exec.api.forms import FIELDS_SIZE, Forms
from qinling_exec.catalogue.packages import FileStore
from tests.unit.api.uploads import LIMIT, MULTIPART, Controller
from tests.unit.api.wsgi import Reply, call


@pytest.fixture
def controller(tmp_path):
    return Controller(FileStore(str(tmp_path)))


@pytest.fixture
def send(controller):
    application = Forms(controller, controller.store, package_limit=LIMIT)
    application = BodyGuard(application, limit=10_000, depth=10)
    application = Faults(application, body_limit=LIMIT + FIELDS_SIZE)

    def send(body: bytes = b"", kind: str = MULTIPART, path: str = "/v1/functions",
             **options) -> Reply:
        return call(application, body=body, kind=kind, path=path, **options)

    return send
