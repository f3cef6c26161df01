"""Add what conditions on runs ask for: configs, and extremes of metrics.

Revision 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lab_server.store.portable.dialects import JsonText
from lab_server.store.rows import parse_json, strict_json

revision = "0003"
down_revision = "0002"

_runs = sa.table(
    "runs",
    sa.column("id", sa.Text),
    sa.column("request", JsonText),
    sa.column("configs", JsonText),
)


def upgrade() -> None:
    """Change the tables; of a run that was created before, the configs are those that it was given."""
    for name in ("configs", "extremes"):
        # a constant default needs no copy of the table
        op.add_column("runs", sa.Column(name, JsonText(), nullable=False, server_default="{}"))
    connection = op.get_bind()
    for run_id, text in connection.execute(sa.select(_runs.c.id, _runs.c.request)).all():
        request = parse_json(text)  # may have a NaN, which is no JSON
        connection.execute(
            _runs.update()
            .where(_runs.c.id == run_id)
            .values(request=strict_json(request), configs=strict_json(request["overrides"]))
        )
