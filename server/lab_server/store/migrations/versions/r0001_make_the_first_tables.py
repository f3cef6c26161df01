"""Make the first tables.

Revision 0001, after none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lab_server.store.portable.dialects import AnyText, JsonText

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "event_blocks",
        sa.Column(
            "first_position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column("run_id", AnyText(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("kinds", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("first_position", name=op.f("event_blocks_key")),
        sa.UniqueConstraint("run_id", "last_seq", name=op.f("event_blocks_by_run_id_last_seq")),
    )
    op.create_table(
        "events",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("run_id", AnyText(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", AnyText(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("events_key")),
        sa.UniqueConstraint("run_id", "seq", name=op.f("events_by_run_id_seq")),
    )
    op.create_table(
        "histories",
        sa.Column("run_id", AnyText(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("histories_key")),
    )
    op.create_table(
        "runs",
        sa.Column("id", AnyText(), nullable=False),
        sa.Column("experiment", AnyText(), nullable=False),
        sa.Column("name", AnyText(), nullable=False),
        sa.Column("owner", AnyText(), nullable=False),
        sa.Column("state", AnyText(), nullable=False),
        sa.Column("tags", JsonText(), nullable=False),
        sa.Column("metrics", JsonText(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queue_key", sa.BigInteger(), nullable=False),
        sa.Column("create_time_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("request", JsonText(), nullable=False),
        sa.Column("details", JsonText(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_key")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index("runs_by_create_time", ["create_time_ns", "id"], unique=False)
        batch_op.create_index("runs_by_state", ["state"], unique=False)

    op.create_table(
        "secrets",
        sa.Column("name", AnyText(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("secrets_key")),
    )
    op.create_table(
        "series_chunks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_id", AnyText(), nullable=False),
        sa.Column("metric", AnyText(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("num_points", sa.Integer(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=False),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("series_chunks_key")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("series_chunks", schema=None) as batch_op:
        batch_op.create_index(
            "series_chunks_by_step",
            ["run_id", "metric", "first_step", "last_step", "num_points", "id"],
            unique=False,
        )

    op.create_table(
        "servers",
        sa.Column("id", AnyText(), nullable=False),
        sa.Column("session", AnyText(), nullable=False),
        sa.Column("address", AnyText(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_commit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("servers_key")),
    )
    op.create_table(
        "store_meta",
        sa.Column("name", AnyText(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("store_meta_key")),
    )
    op.create_table(
        "idempotency_records",
        sa.Column("key", AnyText(), nullable=False),
        sa.Column("fingerprint", AnyText(), nullable=False),
        sa.Column("run_id", AnyText(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("idempotency_records_of_runs")),
        sa.PrimaryKeyConstraint("key", name=op.f("idempotency_records_key")),
    )
    with op.batch_alter_table("idempotency_records", schema=None) as batch_op:
        batch_op.create_index("idempotency_records_by_run", ["run_id"], unique=False)
