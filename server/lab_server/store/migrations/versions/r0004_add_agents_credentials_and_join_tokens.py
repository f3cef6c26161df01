"""Add agents' credentials and join tokens.

Revision 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lab_server.store.portable.dialects import AnyText

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "agents",
        sa.Column("id", AnyText(), nullable=False),
        sa.Column("name", AnyText(), nullable=False),
        sa.Column("pool", AnyText(), nullable=False),
        sa.Column("sha256", AnyText(), nullable=False),
        sa.Column("create_time_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoke_time_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("agents_key")),
    )
    op.create_table(
        "join_tokens",
        sa.Column("id", AnyText(), nullable=False),
        sa.Column("pool", AnyText(), nullable=False),
        sa.Column("sha256", AnyText(), nullable=False),
        sa.Column("expire_time_ns", sa.BigInteger(), nullable=False),
        sa.Column("used_by", AnyText(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("join_tokens_key")),
    )
