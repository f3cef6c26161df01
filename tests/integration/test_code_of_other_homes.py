"""Code that a client sent to a leader with another home: run, resumed and forked under the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lab_client
from lab_client.errors import Unavailable
from lab_server.files.uploads import UploadStore
from lab_server.model.upload import Upload
from tests.agents.test_real_agents import Gate, wait_until
from tests.integration.test_own_slots import PATIENCE_S, Servers, kill, leads, until_told_of
from tests.postgres import Postgres

pytestmark = pytest.mark.slow

COUNTING = """
import time
from pathlib import Path

import helper
from lab_core import experiment, tracker
from lab_core.helpers.training_loop import TrainingLoopConfigs


class Configs(TrainingLoopConfigs):
    loop_count = 6
    gate: str = ""

    def run(self) -> None:
        for step in self.training_loop:
            while self.gate and step == 2 and not Path(self.gate).exists():
                Path(self.gate + ".reached").touch()
                time.sleep(0.005)
            tracker.save(step, {"value": helper.VALUE})
"""


@pytest.fixture
def servers(tmp_path: Path, postgres: Postgres) -> Iterator[Servers]:
    servers = Servers(tmp_path, postgres.new_url())
    yield servers
    servers.stop()


def test_runs_of_sent_code_go_on_when_a_server_with_another_home_leads(
    servers: Servers, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "helper.py").write_text("VALUE = 7\n")
    source = code / "counting.py"
    source.write_text(COUNTING)
    gate = Gate(tmp_path, step=2)
    before = servers.start("a", "--allow-uploads")
    leader = servers.start("b", "--slots", "none", "--allow-uploads")
    addresses = f"{before.address},{leader.address}"
    with lab_client.Client(addresses, timeout_s=PATIENCE_S) as client:
        stopped = client.create(source).start(until_step=3)
        assert stopped.wait().state == "STOPPED"
        created = client.create(source)
        busy = client.create(source, {"gate": gate.overrides["gate"]}).start()
        gate.wait()
        queued = client.create(source).start()
    until_told_of(before, leader)
    kill(before)
    wait_until(lambda: leads(leader), "another leader")
    gate.open()
    with lab_client.Client(addresses, timeout_s=PATIENCE_S) as client:
        client.run(created.id).update(notes="of the leader before")  # once the next one takes it

    away = f"code of run .* on the server {before.address}, which is away: start it again"
    with lab_client.Client(leader.address, timeout_s=PATIENCE_S, retry_timeout_s=0) as client:
        first, second = client.run(created.id), client.run(stopped.id)
        asks: tuple[Callable[[], object], ...] = (first.start, second.resume, second.fork)
        for ask in asks:
            with pytest.raises(Unavailable, match=away):
                ask()
        wait_until(
            lambda: before.address in (client.run(queued.id).info.reason or ""), "the reason"
        )
        assert client.run(queued.id).info.state == "QUEUED"

    before = servers.start("a", "--allow-uploads")
    with lab_client.Client(f"{leader.address},{before.address}", timeout_s=PATIENCE_S) as client:
        runs = [client.run(run.id) for run in (created, stopped, queued, busy)]
        runs[0].start()
        runs[1].resume()
        runs.append(client.run(stopped.id).fork())
        for run in runs:
            assert run.wait(check=True).step == 6
            assert set(run.history()["value"].values) == {7.0}
        upload = Upload(runs[0].info.upload_id, "counting")
        here = UploadStore(leader.home / "uploads")
        assert here.is_whole(upload)
        assert all(here.is_of(upload, run.id) for run in runs if run.id != busy.id)
        assert here.owners_of(upload) == UploadStore(before.home / "uploads").owners_of(upload)
