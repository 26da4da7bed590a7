# SPDX-License-Identifier: Apache-2.0
"""Why a worker was lost, for those that lost a run with it."""

import sqlalchemy as sa

from qinling_exec.db import online

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    online.add_column("workers", sa.Column("lost", sa.String(length=255), nullable=True))


def downgrade() -> None:
    online.drop_column("workers", "lost")
