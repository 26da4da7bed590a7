# SPDX-License-Identifier: Apache-2.0
"""A migrated SQLite database for unit tests."""

import pytest

from qinling_exec import conf as configuration
from qinling_exec.context import RequestContext
from qinling_exec.db import migration
from qinling_exec.db.engine import Database


@pytest.fixture
def conf(tmp_path):
    conf = configuration.load()
    conf.set_override("connection", f"sqlite:///{tmp_path}/test.sqlite", "database")
    conf.set_override("directory", str(tmp_path / "packages"), "packages")
    return conf


@pytest.fixture
def database(conf):
    database = Database(conf)
    migration.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def member():
    return RequestContext(project_id="mine", roles=["member"], overwrite=False)
