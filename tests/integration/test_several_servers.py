"""Two servers on one store: one leads, the other reads along, forwards, and takes over."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import lab_client
from lab_client.errors import LabError, NotFound
from lab_server.model.roles import Role
from lab_server.security.tokens import TokenFile
from tests.integration.test_nothing_is_lost import (
    TOYS,
    Watcher,
    history,
    in_sqlite,
    trainer_of,
    wait_until,
)
from tests.postgres import Postgres
from tests.servers import RealServer, end_agent, start_server

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0


class Pair:
    """Two servers of one home and one store, and what starts them again."""

    def __init__(self, home: Path, url: str) -> None:
        self._home, self._url = home, url
        self._num_started = 0
        self.leader = self.start()
        self.follower = self.start()

    def start(self) -> RealServer:
        self._num_started += 1
        return start_server(
            self._home,
            *("--slots", "cpu:1", "--experiments", str(TOYS), "--store", self._url),
            *("--on-shutdown", "leave"),
            log_name=f"server{self._num_started}.log",
        )

    @property
    def addresses(self) -> str:
        return f"{self.leader.address},{self.follower.address}"

    def replace_leader(self) -> None:
        """Note that the follower leads, and start another one."""
        self.leader, self.follower = self.follower, self.start()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("pair"), postgres.new_url())
    yield pair
    for server in (pair.follower, pair.leader):
        server.stop()


def leads(server: RealServer) -> bool:
    return "leading" in server.log.read_text()


def follows(server: RealServer) -> bool:
    return "following" in server.log.read_text()


def test_any_server_answers_every_call(pair: Pair) -> None:
    with (
        lab_client.Client(pair.leader.address, timeout_s=PATIENCE_S) as leader,
        lab_client.Client(pair.follower.address, timeout_s=PATIENCE_S) as follower,
    ):
        assert [e.name for e in follower.experiments()] == [e.name for e in leader.experiments()]
        run = follower.create("toy", tags=["by the follower"])
        assert leader.run(run.id).info.tags == ("by the follower",)
        run.start()
        watchers = [Watcher(leader.run(run.id)), Watcher(follower.run(run.id))]
        ended = run.wait()
        seen = [watcher.result() for watcher in watchers]

        assert ended.state.name == "COMPLETED"
        assert seen[0] == seen[1]
        assert history(seen[1]) == in_sqlite(run)
        assert dict(follower.run(run.id).history()) == dict(leader.run(run.id).history())
        assert [r.id for r in follower.runs()] == [r.id for r in leader.runs()]
        assert [a.path for a in follower.run(run.id).artifacts()] == [
            a.path for a in leader.run(run.id).artifacts()
        ]
        with pytest.raises(NotFound, match="there is no run 'x'"):
            follower.run("x").stop()
        with pytest.raises(LabError, match="learning_rat"):
            follower.create("toy", {"learning_rat": 1})
        follower.run(run.id).update(tags=["changed"])
        assert leader.run(run.id).info.tags == ("changed",)
        follower.run(run.id).delete()
        with pytest.raises(NotFound):
            leader.run(run.id)


def _ask(server: RealServer, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{server.http_url}/api/v1/{path}", data, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_pages_and_the_http_api_of_any_server_answer_everything(pair: Pair) -> None:
    leader, follower = pair.leader, pair.follower
    status, answer = _ask(follower, "runs", {"experiment": "toy", "name": "by HTTP"})
    assert (status, answer["run"]["name"]) == (200, "by HTTP")
    run_id = answer["run"]["id"]
    assert _ask(follower, f"runs/{run_id}/start", {})[0] == 200
    with lab_client.Client(leader.address, timeout_s=PATIENCE_S) as client:
        assert client.run(run_id).wait().state.name == "COMPLETED"
    assert _ask(follower, f"runs/{run_id}/files") == _ask(leader, f"runs/{run_id}/files")
    for path in ("server", "experiments", "searches"):
        theirs, ours = _ask(leader, path), _ask(follower, path)
        assert theirs[0] == ours[0] == 200
        assert theirs[1].get("slots") == ours[1].get("slots")
    wrong = {"experiment": "toy", "config": {"overrides": {"learning_rat": 1}}}
    for path, body in (
        ("runs", wrong),
        ("runs", {"experiment": "nothing"}),
        (f"runs/{run_id}/start", {}),
        ("runs/x/stop", {}),
    ):
        ours = _ask(follower, path, body)
        assert 400 <= ours[0] < 500
        assert ours == _ask(leader, path, body)
    for server in (leader, follower):
        url = f"{server.http_url}/api/v1/runs/{run_id}/files/run.yaml"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as file:
            assert b"by HTTP" in file.read()
    for path in ("", f"runs/{run_id}", "server", "new?experiment=toy", "searches"):
        with urllib.request.urlopen(f"{follower.http_url}/{path}", timeout=PATIENCE_S) as page:
            assert page.status == 200
    assert _ask(follower, f"runs/{run_id}/delete", {})[0] == 200
    assert _ask(leader, f"runs/{run_id}")[0] == 404


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_another_server_takes_over_and_the_training_does_not_notice(
    pair: Pair, tmp_path: Path, fault: str
) -> None:
    gate = tmp_path / "gate"
    with lab_client.Client(pair.addresses, timeout_s=PATIENCE_S) as client:
        twin = history(Watcher(client.create("toy").start()).result())
        run = client.create("toy", {"wait_at": 34, "gate": str(gate)}).start()
        watchers = [Watcher(run), Watcher(lab_client.Client(pair.follower.address).run(run.id))]
        wait_until(gate.with_name("gate.reached").exists, "step 34")
        trainer = psutil.Process(trainer_of(run))

        leader = pair.leader.process
        leader.send_signal(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
        with lab_client.Client(pair.follower.address, retry_timeout_s=0) as reader:
            assert run.id in [read.id for read in reader.runs()]
            assert reader.server_info().absent_leader in ("", pair.leader.address)
        page = urllib.request.urlopen(f"{pair.follower.http_url}/server", timeout=30).read()
        assert b"<h1>Server</h1>" in page, "a page, whoever leads"
        wait_until(lambda: leads(pair.follower), "another leader")
        gate.touch()
        events = watchers[1].result()
        if fault == "frozen":
            leader.send_signal(signal.SIGCONT)
        leader.wait(30)

        assert watchers[0].result() == events
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert {event.attempt for event in events} == {0, 1}, "the training was not tried again"
        assert history(events) == twin == in_sqlite(run)
        assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE
        if fault == "frozen":
            assert leader.returncode == 75
            assert "another server took over the store" in pair.leader.log.read_text()
        pair.replace_leader()
        assert client.create("toy").start().wait().state.name == "COMPLETED"


def test_page_tokens_of_one_server_are_good_on_the_other(pair: Pair) -> None:
    import grpc

    from lab_rpc.v1 import training_service_pb2 as pb
    from lab_rpc.v1 import training_service_pb2_grpc

    with lab_client.Client(pair.leader.address) as client:
        created = {client.create("toy").id for _ in range(3)}
    found: list[str] = []
    token = ""
    for server in (pair.leader, pair.follower) * 20:
        with grpc.insecure_channel(server.address) as channel:
            stub = training_service_pb2_grpc.TrainingServiceStub(channel)
            page = stub.ListRuns(pb.ListRunsRequest(page_size=1, page_token=token))
        found += [run.id for run in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert created <= set(found)
    assert len(found) == len(set(found))


def test_clocks_that_differ_by_hours_change_nothing(tmp_path: Path, postgres: Postgres) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("needs libfaketime (Debian: apt-get install faketime)")
    url, tokens = postgres.new_url(), tmp_path / "tokens.json"
    TokenFile(tokens).create("ada", Role.ADMIN)

    def start(name: str, offset: str, slots: str = "none") -> RealServer:
        clock = {
            "LD_PRELOAD": str(library),
            "FAKETIME": offset,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        flags = ["--slots", slots, "--store", url, "--tokens", str(tokens)]
        return start_server(tmp_path / name, *flags, **clock)

    servers = [start("behind", "-2h")]
    try:
        # by its own clock the lease ended hours ago, and by that of the third it never will
        for name, offset, slots in (("ahead", "+2h", "none"), ("behind again", "-2h", "cpu:1")):
            # the agent of its own slots joins by a token that is good for an hour
            servers.append(start(name, offset, slots))
            leader, follower = servers[-2:]
            wait_until(partial(follows, follower), "that it reads along")
            assert not leads(follower)
            leader.process.kill()
            wait_until(partial(leads, follower), "another leader")
    finally:
        for server in reversed(servers):
            server.stop()
        end_agent(servers[-1].home)
