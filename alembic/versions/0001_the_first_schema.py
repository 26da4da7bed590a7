# SPDX-License-Identifier: Apache-2.0
"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLE = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}


def upgrade() -> None:
    op.create_table(
        "executions",
        sa.Column("function_id", sa.String(length=36), nullable=False),
        sa.Column("function_version", sa.Integer(), nullable=False),
        sa.Column("function_alias", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("sync", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("runner_id", sa.String(length=36), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
        **TABLE,
    )
    op.create_index(
        op.f("ix_executions_created_at_id"), "executions", ["created_at", "id"], unique=False
    )
    op.create_index(
        op.f("ix_executions_project_id_created_at_id"),
        "executions",
        ["project_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_executions_project_id_function_id_created_at_id"),
        "executions",
        ["project_id", "function_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_executions_project_id_status_created_at_id"),
        "executions",
        ["project_id", "status", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_executions_running",
        "executions",
        ["function_id", "function_version", "runner_id", "created_at", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )

    op.create_table(
        "packages",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_packages")),
        **TABLE,
    )
    op.create_table(
        "runners",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("heartbeat_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runners")),
        **TABLE,
    )
    op.create_table(
        "runtimes",
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("image", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("status_reason", sa.String(length=255), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("pool_total", sa.Integer(), nullable=False),
        sa.Column("pool_available", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runtimes")),
        **TABLE,
    )
    op.create_index(
        op.f("ix_runtimes_created_at_id"), "runtimes", ["created_at", "id"], unique=False
    )

    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("function_id", sa.String(length=36), nullable=False),
        sa.Column("function_version", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("runner_id", sa.String(length=36), nullable=True),
        sa.Column("address", sa.String(length=255), nullable=True),
        sa.Column("secret", sa.String(length=128), nullable=True),
        sa.Column("room", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
        **TABLE,
    )
    op.create_index(
        op.f("ix_workers_function_id_function_version"),
        "workers",
        ["function_id", "function_version"],
        unique=False,
    )
    op.create_index(op.f("ix_workers_runner_id"), "workers", ["runner_id"], unique=False)

    op.create_table(
        "execution_inputs",
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("data", BYTES, nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_execution_inputs_execution_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_execution_inputs")),
        **TABLE,
    )
    op.create_table(
        "execution_logs",
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("position", BIG, autoincrement=False, nullable=False),
        sa.Column("data", BYTES, nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_execution_logs_execution_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("execution_id", "position", name=op.f("pk_execution_logs")),
        **TABLE,
    )
    op.create_table(
        "execution_results",
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("data", BYTES, nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_execution_results_execution_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_execution_results")),
        **TABLE,
    )
    op.create_table(
        "functions",
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("runtime_id", sa.String(length=36), nullable=True),
        sa.Column("cpu", sa.Integer(), nullable=False),
        sa.Column("memory_size", sa.BigInteger(), nullable=False),
        sa.Column("timeout", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("entry", sa.String(length=80), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("latest_version", sa.Integer(), nullable=False),
        sa.Column("package", sa.String(length=64), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["package"], ["packages.sha256"], name=op.f("fk_functions_package")
        ),
        sa.ForeignKeyConstraint(
            ["runtime_id"], ["runtimes.id"], name=op.f("fk_functions_runtime_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_functions")),
        **TABLE,
    )
    op.create_index(
        op.f("ix_functions_created_at_id"), "functions", ["created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_functions_package"), "functions", ["package"], unique=False)
    op.create_index(
        op.f("ix_functions_project_id_created_at_id"),
        "functions",
        ["project_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(op.f("ix_functions_runtime_id"), "functions", ["runtime_id"], unique=False)

    op.create_table(
        "function_aliases",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("function_id", sa.String(length=36), nullable=False),
        sa.Column("function_version", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["function_id"], ["functions.id"], name=op.f("fk_function_aliases_function_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_function_aliases")),
        sa.UniqueConstraint(
            "project_id",
            "function_id",
            "function_version",
            name=op.f("uq_function_aliases_project_id_function_id_function_version"),
        ),
        sa.UniqueConstraint(
            "project_id", "name", name=op.f("uq_function_aliases_project_id_name")
        ),
        **TABLE,
    )
    op.create_index(
        op.f("ix_function_aliases_created_at_id"),
        "function_aliases",
        ["created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_function_aliases_function_id"), "function_aliases", ["function_id"], unique=False
    )

    op.create_table(
        "function_versions",
        sa.Column("function_id", sa.String(length=36), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("version_number", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("package", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["function_id"],
            ["functions.id"],
            name=op.f("fk_function_versions_function_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["package"], ["packages.sha256"], name=op.f("fk_function_versions_package")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_function_versions")),
        sa.UniqueConstraint(
            "function_id",
            "version_number",
            name=op.f("uq_function_versions_function_id_version_number"),
        ),
        **TABLE,
    )
    op.create_index(
        op.f("ix_function_versions_package"), "function_versions", ["package"], unique=False
    )


def downgrade() -> None:
    # Indexes go with their tables; MariaDB lets go of none that a foreign key needs.
    op.drop_table("function_versions")
    op.drop_table("function_aliases")
    op.drop_table("functions")
    op.drop_table("execution_results")
    op.drop_table("execution_logs")
    op.drop_table("execution_inputs")
    op.drop_table("workers")
    op.drop_table("runtimes")
    op.drop_table("runners")
    op.drop_table("packages")
    op.drop_table("executions")
