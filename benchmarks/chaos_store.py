"""The store of benchmarks/chaos.py: what fails of it, and what it is made to note."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from launches import GRANTS, GRANTS_IN_POSTGRESQL, GRANTS_IN_SQLITE
from local_postgres import SOCKET, Postgres
from unreliable import Network

LEASE_LOG = """
CREATE TABLE {schema}.lease_log (at timestamptz, session text, num_servers int);
CREATE FUNCTION {schema}.note_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO {schema}.lease_log
    SELECT clock_timestamp(), NEW.session, count(*) FROM {schema}.servers;
  RETURN NULL;
END $$;
CREATE TRIGGER note_lease AFTER INSERT ON {schema}.servers
  FOR EACH ROW EXECUTE FUNCTION {schema}.note_lease();
"""
"""Notes each server that begins to lead, with how many lead then."""


class SqliteStore:
    """A store in a file, which has no faults of its own.

    Attributes:
        url: of the store.
        arguments: with which servers use it.
    """

    strikes: Mapping[str, int] = {}
    arguments: tuple[str, ...] = ()

    def __init__(self, home: Path) -> None:
        self._path = home / "lab.db"
        self.url = f"sqlite:///{self._path}"

    def start(self) -> None:
        """Have it note which slots runs are given; the server has made it."""
        with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as db:
            db.executescript(GRANTS_IN_SQLITE)

    def stop(self) -> None:
        """Do nothing."""

    def revive(self) -> None:
        """Do nothing."""

    def strike(self, what: str) -> bool:
        """Do nothing."""
        del what
        return False

    def grants(self) -> list[tuple[Any, ...]]:
        """Return which run was given which slot, or none, in that order."""
        with contextlib.closing(sqlite3.connect(self._path)) as db:
            return db.execute(GRANTS.format(schema="")).fetchall()

    def leases(self) -> list[tuple[object, ...]]:
        """Return nothing: one server has it."""
        return []


class PostgresStore:
    """A store on a PostgreSQL of its own, behind a network.

    Args:
        home: where the network's socket is.
        postgres: runs, and comes back when it was stopped.
    """

    strikes: Mapping[str, int] = {
        "PostgreSQL": 2,
        "connections": 2,
        "cut network": 2,
        "slow network": 1,
        "lossy network": 1,
    }

    def __init__(self, home: Path, postgres: Postgres, rng: random.Random) -> None:
        home.mkdir(parents=True)
        self.url = postgres.new_url()
        self._postgres = postgres
        self._rng = rng
        self._schema = self.url.rpartition("%3D")[2]
        self._network = Network(home / SOCKET, postgres.folder / SOCKET)
        folder, through = quote(str(postgres.folder)), quote(str(home))
        self.arguments = ("--store", self.url.replace(folder, through))

    def start(self) -> None:
        """Have it note who leads, and which slots runs are given; a server has made its tables."""
        self._postgres.execute((LEASE_LOG + GRANTS_IN_POSTGRESQL).format(schema=self._schema))

    def stop(self) -> None:
        """Do nothing: it is read until the end."""

    def revive(self) -> None:
        """Do nothing."""

    def strike(self, what: str) -> bool:
        """Strike the store, or the way to it."""
        some_s = self._rng.uniform(0.1, 6.0)
        match what:
            case "PostgreSQL":
                self._postgres.stop(crash=self._rng.random() < 0.5)
                time.sleep(some_s)
                self._postgres.start()
            case "connections":
                self._postgres.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'lab-server%'"
                )
            case _:
                self._network.fail(what, some_s)
        return True

    def grants(self) -> list[tuple[Any, ...]]:
        """Return which run was given which slot, or none, in that order."""
        return self._postgres.execute(GRANTS.format(schema=f"{self._schema}."))

    def leases(self) -> list[tuple[object, ...]]:
        """Return, for each server that began to lead, how many led then."""
        return self._postgres.execute(f"SELECT num_servers FROM {self._schema}.lease_log")
