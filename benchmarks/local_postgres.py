"""A PostgreSQL of one's own: a temporary folder, a Unix socket, no port."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
MISSING = "needs PostgreSQL's server (Debian: apt-get install postgresql)"
SOCKET = ".s.PGSQL.5432"
USER = "postgres"


def program(name: str) -> str | None:
    """Return where a program of PostgreSQL is; Debian leaves the server's out of PATH."""
    return shutil.which(name) or next(
        (str(folder / name) for folder in FOLDERS if (folder / name).exists()), None
    )


@dataclass
class Postgres:
    """A running server; each store gets a schema of its own in it."""

    folder: Path
    process: subprocess.Popen[bytes]
    is_durable: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_url(self) -> str:
        """Return the URL of an empty schema, which is made."""
        name = f"s{next(self._numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        return self.url(f"-csearch_path={name}")

    def url(self, options: str = "") -> str:
        """Return the URL of the database, with options of the connection."""
        tail = f"&options={quote(options)}" if options else ""
        return f"postgresql://lab@/postgres?host={quote(str(self.folder))}{tail}"

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the database's owner, and return its rows."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def stop(self, *, crash: bool = False) -> None:
        """End all connections and the server, or let it crash."""
        self.process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        self.process.wait(60)

    def start(self) -> None:
        """Start the server again after `stop`."""
        self.process = _start(self.folder, self.is_durable)

    def remove(self) -> None:
        """End the server, and remove all that it has."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_postgres(*, is_durable: bool = False) -> Postgres | None:
    """Start an empty server, which syncs its commits if it is durable; None where PostgreSQL is not installed."""
    initdb = program("initdb")
    if initdb is None or program("postgres") is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="lab-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, USER, pwd.getpwnam(USER).pw_gid)
    options = ["--no-sync", "-A", "trust", "-U", "lab", "-E", "UTF8", "-D", str(folder / "data")]
    subprocess.run([*_as_user(), initdb, *options], check=True, stdout=subprocess.DEVNULL)
    return Postgres(folder, _start(folder, is_durable), is_durable)


def _as_user() -> list[str]:
    """Return what runs a program as another user than root, which PostgreSQL refuses.

    Not Popen's `user`: it needs a fork that gRPC's threads in this process would notice.
    """
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]


def _start(folder: Path, is_durable: bool) -> subprocess.Popen[bytes]:
    options = [
        *("-D", str(folder / "data"), "-k", str(folder)),
        *(
            "-c",
            "listen_addresses=",
            "-c",
            f"fsync={'on' if is_durable else 'off'}",
            "-c",
            "max_connections=200",
        ),
    ]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*_as_user(), program("postgres") or "", *options],
            stdout=subprocess.DEVNULL,
            stderr=log,
            # Ctrl-C in a terminal ends its users first
            start_new_session=True,
        )
    deadline = time.monotonic() + 60
    ready = [program("pg_isready") or "pg_isready", "-q", "-h", str(folder)]
    while subprocess.run(ready, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start:\n{(folder / 'log').read_text()}")
        time.sleep(0.02)
    return process
