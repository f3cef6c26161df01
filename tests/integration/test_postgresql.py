"""A server whose store is on PostgreSQL, which stops and comes back under a training."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab_client
from lab_client.errors import Unavailable
from tests.integration.test_nothing_is_lost import TOYS, Watcher, history, in_sqlite, wait_until
from tests.postgres import Postgres
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    return postgres.new_url()


@pytest.fixture(scope="module")
def pg_server(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[RealServer]:
    started = start_server(
        tmp_path_factory.mktemp("on-postgresql"),
        *("--slots", "cpu:1", "--experiments", str(TOYS), "--store", url),
    )
    yield started
    started.stop()


def metrics(server: RealServer) -> str:
    with urllib.request.urlopen(f"{server.http_url}/metrics", timeout=60) as response:
        text: str = response.read().decode()
        return text


def test_a_training_goes_on_while_postgresql_is_away_and_nothing_is_lost(
    pg_server: RealServer, postgres: Postgres, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with lab_client.Client(pg_server.address, timeout_s=PATIENCE_S) as client:
        twin = Watcher(client.create("toy").start())
        twin_events = twin.result()
        run = client.create("toy", {"wait_at": 34, "gate": str(gate)}).start()
        watcher = Watcher(run)
        wait_until(gate.with_name("gate.reached").exists, "step 34")
        lines_before = pg_server.log.read_text().splitlines()

        postgres.stop()
        try:
            gate.touch()  # the training goes on, to its end
            folder = Path(run.info.folder)
            done = folder / "checkpoints" / "60"
            wait_until(done.exists, "the last checkpoint")
            with pytest.raises(Unavailable, match=r"the store postgresql://\S+ cannot be reached"):
                lab_client.Client(pg_server.address, timeout_s=1).create("toy")
            page = metrics(pg_server)
            assert "lab_store_up 0.0" in page
            assert f'lab_run_step{{experiment="toy",run="{run.id}"}}' in page
            assert "lab_runs{" not in page
            assert re.match(
                r"✗ store: \S+: the store postgresql://\S+ cannot be", doctor(pg_server)
            )
            time.sleep(3)  # time for an error storm
        finally:
            postgres.start()

        events = watcher.result()
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert {event.attempt for event in events} == {0, 1}
        assert history(events) == history(twin_events) == in_sqlite(run)
        lines = pg_server.log.read_text().splitlines()[len(lines_before) :]
        assert len(lines) < 20, lines
        told = [json.loads(line)["event"] for line in lines]
        assert not [event for event in told if "trying again" in event and told.count(event) > 1]
        assert "lab_store_up 1.0" in metrics(pg_server)
        assert not any("Traceback" in line for line in lines)


def doctor(server: RealServer) -> str:
    """Return the last line of lab doctor."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lab"), "--server", server.address, "doctor"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    return done.stdout.splitlines()[-1]


def test_the_settings_are_printed_without_the_password() -> None:
    command = [sys.executable, "-m", "lab_server", "config"]
    done = subprocess.run(
        [*command, "--store", "postgresql://lab:geheim@db.example:5433/lab"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "postgresql://lab:***@db.example:5433/lab" in done.stdout
    assert "geheim" not in done.stdout + done.stderr


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "lab.db"])
def test_a_store_of_another_kind_is_refused_without_its_password(url: str) -> None:
    command = [sys.executable, "-m", "lab_server", "config", "--store", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "--store: it must be postgresql://USER@HOST/DATABASE" in done.stderr
    assert "secret" not in done.stderr
