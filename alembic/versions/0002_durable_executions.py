# SPDX-License-Identifier: Apache-2.0
"""Retries, cancels, and requests that may be sent twice."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from qinling_exec.db import online

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
TABLE = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}
RUNNING = {
    "sqlite_where": sa.text("status = 'running'"),
    "postgresql_where": sa.text("status = 'running'"),
}
#: Lists of one order took each of these; now each index serves every state, by a merge.
LISTS_BEFORE = {
    "ix_executions_created_at_id": ["created_at", "id"],
    "ix_executions_project_id_created_at_id": ["project_id", "created_at", "id"],
    "ix_executions_project_id_function_id_created_at_id": [
        "project_id", "function_id", "created_at", "id",
    ],
}
LISTS = {
    "ix_executions_status_created_at_id": ["status", "created_at", "id"],
    "ix_executions_function": ["function_id", "project_id", "status", "created_at", "id"],
}


def upgrade() -> None:
    online.add_column("executions", sa.Column("worker", sa.String(length=80), nullable=True))
    online.add_column("executions", sa.Column("retry_at", TIME, nullable=True))
    online.add_column("executions", sa.Column("cancel_requested_at", TIME, nullable=True))

    for name, columns in LISTS.items():
        online.create_index(name, "executions", columns)
    for name in LISTS_BEFORE:
        online.drop_index(name, "executions")
    # Meanwhile the engines find what is running by the one of the status.
    online.drop_index("ix_executions_running", "executions", **RUNNING)
    online.create_index(
        "ix_executions_running",
        "executions",
        ["status", "runner_id", "function_id", "function_version", "created_at", "id"],
        unique=False,
        **RUNNING,
    )

    online.add_column(
        "functions",
        sa.Column("max_attempts", sa.Integer(), nullable=False, server_default="1"),
    )
    online.add_column(
        "functions",
        sa.Column("retry_on_failure", sa.Boolean(), nullable=False, server_default=sa.false()),
    )

    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "key", name=op.f("pk_idempotency_keys")),
        if_not_exists=True,
        **TABLE,
    )
    online.create_index(
        op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False
    )

    op.create_table(
        "quota_locks",
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_quota_locks")),
        if_not_exists=True,
        **TABLE,
    )


def downgrade() -> None:
    op.drop_table("quota_locks", if_exists=True)
    op.drop_table("idempotency_keys", if_exists=True)

    online.drop_column("functions", "retry_on_failure")
    online.drop_column("functions", "max_attempts")

    online.drop_index("ix_executions_running", "executions", **RUNNING)
    online.create_index(
        "ix_executions_running",
        "executions",
        ["function_id", "function_version", "runner_id", "created_at", "id"],
        unique=False,
        **RUNNING,
    )
    for name, columns in LISTS_BEFORE.items():
        online.create_index(name, "executions", columns)
    for name in LISTS:
        online.drop_index(name, "executions")

    online.drop_column("executions", "cancel_requested_at")
    online.drop_column("executions", "retry_at")
    online.drop_column("executions", "worker")
