# SPDX-License-Identifier: Apache-2.0
"""The migrations make what the models say, and go back."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from qinling_exec.db import migration, models
from qinling_exec.db.engine import Database


def test_migrations_and_models_make_the_same_schema(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, models.Base.metadata) == []


def test_models_make_the_schema_of_the_migrations(conf, tmp_path):
    """Name for name: tables, columns, indexes with their conditions, constraints."""
    def schema(path, make):
        conf.set_override("connection", f"sqlite:///{path}", "database")
        database = Database(conf)
        make(database)
        with database.reader() as connection:
            rows = connection.exec_driver_sql(
                "SELECT type, name, tbl_name FROM sqlite_master WHERE name != 'alembic_version'"
                " AND tbl_name != 'alembic_version'"
            ).all()
        database.close()
        return sorted(map(tuple, rows))

    migrated = schema(tmp_path / "a.sqlite", migration.upgrade)
    created = schema(tmp_path / "b.sqlite",
                     lambda database: models.Base.metadata.create_all(database.engine))
    assert migrated == created


def test_up_down_and_up_again(database):
    assert migration.version(database) == migration.newest()
    migration.downgrade(database, "base")
    assert migration.version(database) is None
    with database.reader() as connection:
        tables = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    assert tables == ["alembic_version"]
    migration.upgrade(database)
    assert migration.version(database) == migration.newest()
