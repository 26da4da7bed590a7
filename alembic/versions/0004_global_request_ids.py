# SPDX-License-Identifier: Apache-2.0
"""The caller's own request id of an execution, for the log of the engine that runs it."""

import sqlalchemy as sa

from qinling_exec.db import online

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    online.add_column("executions",
                      sa.Column("global_request_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    online.drop_column("executions", "global_request_id")
