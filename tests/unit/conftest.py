# SPDX-License-Identifier: Apache-2.0
"""A migrated database for unit tests: SQLite, or each kind for tests that are marked so."""

import shutil

import pytest
import sqlalchemy as sa

from qinling_exec import conf as configuration
from qinling_exec.context import RequestContext
from qinling_exec.db import models
from qinling_exec.db.engine import Database
from tests import databases


@pytest.fixture
def conf(tmp_path):
    conf = configuration.load()
    conf.set_override("connection", f"sqlite:///{tmp_path}/test.sqlite", "database")
    conf.set_override("directory", str(tmp_path / "packages"), "packages")
    return conf


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory):
    """A migrated SQLite file, to be copied: a migration takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "test.sqlite"
    databases.migrated(f"sqlite:///{path}").close()
    assert [other.name for other in path.parent.iterdir() if "-wal" in other.name] == []
    return path


@pytest.fixture(scope="session")
def migrated_schema(database_kind, database_server):
    """A schema that tests share one after the other; SQLite's are files of each test's own."""
    if database_kind == "sqlite":
        return None
    url = database_server.new_schema()
    databases.migrated(url).close()
    return url


@pytest.fixture
def database(conf, tmp_path, migrated_file, migrated_schema, database_kind):
    if migrated_schema:
        conf.set_override("connection", migrated_schema, "database")
    else:
        shutil.copy(migrated_file, tmp_path / "test.sqlite")
    database = Database(conf)
    assert database.kind == {"mariadb": "mysql"}.get(database_kind, database_kind)
    yield database
    if migrated_schema:
        with database.writer() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(sa.delete(table))
    database.close()


@pytest.fixture
def empty_database(conf, database_server):
    """A database without a schema."""
    conf.set_override("connection", database_server.new_schema(), "database")
    database = Database(conf)
    yield database
    database.close()


@pytest.fixture
def member():
    return RequestContext(project_id="mine", roles=["member"], overwrite=False)
