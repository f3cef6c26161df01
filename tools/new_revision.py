"""Write a revision of the store's tables: what is in `schema` and not in the last revision.

    python tools/new_revision.py "Add a table of searches"

Then read the file, and set `SCHEMA_REVISION` in `schema` to its number. A test holds that the revisions
come to the tables in `schema`, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from lab_server.store import migrations


def main() -> None:
    """Compare an empty database, brought up to date, with the tables."""
    message = sys.argv[1]
    with sa.create_engine("sqlite://").begin() as connection:
        config = migrations.config(connection)
        scripts = ScriptDirectory.from_config(config)
        if heads := scripts.get_heads():
            command.upgrade(config, heads[0])
        number = f"{len(list(scripts.walk_revisions())) + 1:04}"
        command.revision(config, message, autogenerate=True, rev_id=number)
    print(f"set SCHEMA_REVISION = {number!r} in {Path('server/lab_server/store/schema.py')}")


if __name__ == "__main__":
    main()
