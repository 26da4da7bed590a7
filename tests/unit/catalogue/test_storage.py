# SPDX-License-Identifier: Apache-2.0
"""A package is in the store exactly as long as somebody refers to it."""

import io
import pathlib
import zipfile

import pytest
import sqlalchemy as sa

from qinling_exec.catalogue import functions
from qinling_exec.catalogue.functions import Functions
from qinling_exec.catalogue.packages import FileStore
from qinling_exec.catalogue.storage import Storage
from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.db.wakeup import Wakeup
from qinling_exec.orchestrator.workers import Workers
from qinling_exec.quota.holding import Holding
from qinling_exec.quota.limits import Static
from qinling_exec.runtime.package import Limits

pytestmark = pytest.mark.every_database

RUNTIME = "5b0c0a3e-0000-4000-8000-000000000000"


@pytest.fixture
def store(tmp_path):
    return FileStore(str(tmp_path / "packages"))


@pytest.fixture
def catalogue(conf, database, store):
    with database.writer() as connection:
        connection.execute(sa.insert(models.Runtime.__table__), {
            "id": RUNTIME, "project_id": "p", "image": "i", "status": "available",
            "is_public": True, "trusted": True, "created_at": utcnow(), "pool_total": 0,
            "pool_available": 0,
        })
    storage = Storage(database, store, Limits())
    return Functions(database, storage, Workers(database, Wakeup(), 3), Holding(Static(conf)))


def package(store, text="def main(): pass"):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("main.py", text)
    incoming = store.receive()
    incoming.write(data.getvalue())
    return incoming


def values():
    return {"name": "f", "runtime_id": RUNTIME, "code": {"source": "package"}, "cpu": 100,
            "entry": "main.main", "memory_size": 1, "timeout": 5}


def stored(tmp_path):
    return sorted(path.name for path in pathlib.Path(tmp_path / "packages").rglob("*.zip"))


def test_a_package_goes_with_its_last_function(catalogue, store, member, tmp_path):
    one = catalogue.create(member, values(), package(store))
    two = catalogue.create(member, values(), package(store))
    assert one.package == two.package
    assert stored(tmp_path) == [f"{one.package}.zip"]
    catalogue.delete(member, one.id)
    assert stored(tmp_path) == [f"{one.package}.zip"]
    catalogue.delete(member, two.id)
    assert stored(tmp_path) == []


def test_an_update_lets_the_old_package_go(catalogue, store, member, tmp_path):
    function = catalogue.create(member, values(), package(store))
    updated = catalogue.update(member, function.id, {}, package(store, "def main(): return 2"))
    assert updated.package != function.package
    assert stored(tmp_path) == [f"{updated.package}.zip"]


def test_a_failed_create_leaves_no_package(catalogue, store, member, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("after the package was kept")

    monkeypatch.setattr(functions, "find", fail)
    with pytest.raises(RuntimeError, match="kept"):
        catalogue.create(member, values(), package(store))
    assert stored(tmp_path) == []
