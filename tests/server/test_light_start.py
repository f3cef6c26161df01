"""What a server imports before it is ready is what it needs: each module is time at every start."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HEAVY = (
    "aiohttp",
    "alembic",
    "cryptography",
    "lab_core.writers",
    "numpy",
    "optuna",
    "psycopg",
    "rich",
    "sqlalchemy.dialects.postgresql",
    "torch",
)


def test_a_server_on_sqlite_imports_nothing_that_others_need() -> None:
    code = (
        "import sys; from lab_server import cli; cli.prepare('lab-server');"
        "import lab_server.cli.commands, lab_server.app.serve, lab_server.app.wiring;"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())
