"""Add searches.

Revision 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lab_server.store.portable.dialects import AnyText

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "searches",
        sa.Column("id", AnyText(), nullable=False),
        sa.Column("experiment", AnyText(), nullable=False),
        sa.Column("owner", AnyText(), nullable=False),
        sa.Column("state", AnyText(), nullable=False),
        sa.Column("create_time_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("idempotency_key", AnyText(), nullable=True),
        sa.Column("fingerprint", AnyText(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("searches_key")),
        sa.UniqueConstraint("idempotency_key", name=op.f("searches_by_idempotency_key")),
    )
    with op.batch_alter_table("searches", schema=None) as batch_op:
        batch_op.create_index("searches_by_state", ["state"], unique=False)

    op.create_table(
        "search_entries",
        sa.Column("search_id", AnyText(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("search_entries_of_searches")
        ),
        sa.PrimaryKeyConstraint("search_id", "seq", name=op.f("search_entries_key")),
    )
