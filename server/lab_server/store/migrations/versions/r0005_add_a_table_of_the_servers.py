"""Add a table of the servers.

Revision 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lab_server.store.portable.dialects import AnyText

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "members",
        sa.Column("session", AnyText(), nullable=False),
        sa.Column("home", AnyText(), nullable=False),
        sa.Column("address", AnyText(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session", name=op.f("members_key")),
    )
