# SPDX-License-Identifier: Apache-2.0
"""The migrations make what the models say, and go back, on each database."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from qinling_exec import exceptions
from qinling_exec.db import migration, models, online
from qinling_exec.db.engine import Database

pytestmark = pytest.mark.every_database


def test_the_files_names_tell_the_revisions():
    config = Config()
    config.set_main_option("script_location", str(migration.location()))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == migration.newest()
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")


def test_migrations_and_models_make_the_same_schema(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, models.Base.metadata) == []


def schema(database):
    """Return all that the database tells of its tables."""
    inspector = sa.inspect(database.engine)
    found = {}
    for table in inspector.get_table_names():
        if table != "alembic_version":
            found[table] = (
                sorted((column["name"], str(column["type"]), column["nullable"],
                        getattr(column["type"], "collation", None))
                       for column in inspector.get_columns(table)),
                sorted((index["name"], index["column_names"], bool(index["unique"]),
                        str(index.get("dialect_options", {}).get("postgresql_where")))
                       for index in inspector.get_indexes(table)),
                inspector.get_pk_constraint(table)["constrained_columns"],
                sorted(map(str, inspector.get_unique_constraints(table))),
                sorted(map(str, inspector.get_foreign_keys(table))),
            )
    return found


def test_models_make_the_schema_of_the_migrations(conf, empty_database, database_server):
    """Name for name: tables, columns, indexes with their conditions, constraints."""
    migration.upgrade(empty_database)
    migrated = schema(empty_database)
    conf.set_override("connection", database_server.new_schema(), "database")
    other = Database(conf)
    models.Base.metadata.create_all(other.engine)
    created = schema(other)
    other.close()
    assert migrated == created
    assert len(migrated) > 10


def test_up_down_and_up_again(empty_database):
    migration.upgrade(empty_database)
    first = schema(empty_database)
    assert migration.version(empty_database) == migration.newest()
    migration.downgrade(empty_database, "base")
    assert migration.version(empty_database) is None
    assert sa.inspect(empty_database.engine).get_table_names() == ["alembic_version"]
    migration.upgrade(empty_database)
    assert migration.version(empty_database) == migration.newest()
    assert schema(empty_database) == first


def test_a_schema_of_a_newer_program_is_left_alone(empty_database):
    migration.upgrade(empty_database)
    for current in ("9999", migration.newest()):
        with empty_database.writer() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :current"),
                               {"current": current})
        if current == "9999":
            with pytest.raises(exceptions.InputError, match="9999, which this program"):
                migration.upgrade(empty_database)
            assert migration.version(empty_database) == "9999"
    migration.upgrade(empty_database)


def test_one_step_down_and_up_keeps_what_is_stored(empty_database):
    migration.upgrade(empty_database)
    row = {"id": "e", "project_id": "p", "function_id": "f", "function_version": 0,
           "status": "success", "sync": True, "attempts": 1,
           "created_at": sa.func.current_timestamp()}
    with empty_database.writer() as connection:
        connection.execute(sa.insert(models.Execution.__table__).values(**row))
    migration.downgrade(empty_database, "0001")
    migration.upgrade(empty_database)
    with empty_database.reader() as connection:
        stored = connection.execute(sa.select(models.Execution.__table__)).one()
    assert (stored.id, stored.worker) == ("e", None)


def test_an_interrupted_migration_is_run_again(empty_database, monkeypatch, database_kind):
    """Where a rollback can't undo the steps, each finds out whether it is done."""
    steps = []

    def interrupted(function, after):
        def step(*arguments, **options):
            if len(steps) >= after:
                raise KeyboardInterrupt
            steps.append(1)
            return function(*arguments, **options)
        return step

    for after in range(1, 13, 3):
        migration.upgrade(empty_database, "0001")
        steps.clear()
        with monkeypatch.context() as patch:
            for name in ("add_column", "create_index", "drop_index"):
                patch.setattr(online, name, interrupted(getattr(online, name), after))
            with pytest.raises(KeyboardInterrupt):
                migration.upgrade(empty_database)
        migration.upgrade(empty_database)
        context = MigrationContext.configure(empty_database.engine.connect())
        assert compare_metadata(context, models.Base.metadata) == []
        context.connection.close()
        migration.downgrade(empty_database, "0001")


def test_several_at_once_do_it_once(empty_database, conf, tmp_path):
    config = tmp_path / "qinling_exec.conf"
    config.write_text(f"[database]\nconnection = {conf.database.connection}\n")
    command = [sys.executable, "-m", "qinling_exec.cmd.manage", "--config-file", str(config),
               "db", "sync"]
    running = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert migration.version(empty_database) == migration.newest()
