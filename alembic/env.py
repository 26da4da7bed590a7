# SPDX-License-Identifier: Apache-2.0
"""Runs the migrations on the connection that qinling_exec.db.migration opened."""

from alembic import context

from qinling_exec.db import models

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("Run migrations with: qinling-exec-manage db sync")

context.configure(
    connection=connection,
    target_metadata=models.Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
