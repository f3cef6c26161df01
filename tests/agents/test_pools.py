"""Pools: as many agents as the queue needs, within bounds, and the reason where there are none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from lab_core.errors import SettingsError
from lab_server.executors.pools.engine import EngineError, Job, JobState
from lab_server.executors.pools.pool import Pool
from lab_server.executors.pools.pools import Pools, owner_of
from lab_server.executors.pools.sizing import Changes, Standing, changes
from lab_server.executors.remote.registry import Agents
from lab_server.model.agent import NAME, Hello, Stop
from lab_server.model.slot import Slot, Wants
from lab_server.settings.loading import load
from lab_server.settings.pools import PoolSettings

TWO_SLOTS = PoolSettings(name="gpus", slots="cpu:2", min=1, max=4)


RUNNING = Job(JobState.RUNNING)


async def a_token() -> str:
    return "lab_token"


async def no_token(pool: str) -> str:
    del pool
    return ""


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (Standing([]), Changes(1)),  # never below min
        (Standing([], num_waiting=2), Changes(1)),
        (Standing([], num_waiting=3), Changes(2)),
        (Standing(["a"], num_busy_slots=1, num_waiting=2), Changes(1)),
        (Standing(["a", "b"], num_busy_slots=2, num_waiting=2), Changes()),
        (Standing(["a"], num_waiting=100), Changes(3)),  # never above max
        (Standing(["a", "b"], ("a", "b")), Changes(leaving=("a",))),
        (Standing(["a", "b", "c"], ("c",), num_busy_slots=3), Changes(leaving=("c",))),
        (Standing(["a"], ("a",)), Changes()),
        (Standing(list("abcdef")), Changes()),  # above max, and all busy
    ],
)
def test_a_pool_has_the_size_that_its_runs_need(standing: Standing, expected: Changes) -> None:
    assert changes(TWO_SLOTS, standing) == expected


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"name": "a/b"}, "no name"),
        ({"slots": "gpu"}, "not a slot"),
        ({"slots": "none"}, "nothing to do"),
        ({"min": 3, "max": 2}, "more than max"),
        ({"engine": "ray"}, "address must be"),
        ({"engine": "yarn"}, "'static', 'ray' or 'slurm'"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        PoolSettings(**{"name": "gpus", **changed})


def test_pools_come_from_the_settings_file(tmp_path: Any) -> None:
    file = tmp_path / "lab.toml"
    file.write_text('[[pools]]\nname = "a"\nmax = 3\n[[pools]]\nname = "b"\n')
    assert [(pool.name, pool.max) for pool in load({}, file).settings.pools] == [("a", 3), ("b", 1)]
    file.write_text('[[pools]]\nname = "a"\nmax = "many"\n[[pools]]\nname = "a"\n')
    with pytest.raises(SettingsError, match=r"pools\.0\.max: .*'many'"):
        load({}, file)
    file.write_text('[[pools]]\nname = "a"\n[[pools]]\nname = "a"\n')
    with pytest.raises(SettingsError, match="two pools are named 'a'"):
        load({}, file)
    file.write_text('[[pools]]\nname = "hosts"\n')
    with pytest.raises(SettingsError, match="'hosts' is that of the servers' own slots"):
        load({}, file)


class FakeEngine:
    """Jobs that the test moves."""

    def __init__(self) -> None:
        self.found: dict[str, Job] = {}
        self.submitted: list[tuple[str, Sequence[str], Mapping[str, str]]] = []
        self.problem = ""
        self.refusal = ""
        self.tried: list[str] = []

    async def submit(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.tried.append(name)
        if problem := self.problem or self.refusal:
            raise EngineError(problem)
        self.submitted.append((name, command, environment))
        self.found[name] = Job(JobState.WAITING)

    async def jobs(self, prefix: str) -> Mapping[str, Job]:
        if self.problem:
            raise EngineError(self.problem)
        return {name: job for name, job in self.found.items() if name.startswith(prefix)}

    async def cancel(self, name: str) -> None:
        del self.found[name]

    async def close(self) -> None:
        return


class Bench:
    """A pool with a clock that the test moves."""

    def __init__(self, owner: str = "50e5", **settings: Any) -> None:
        self.now = 1000.0
        self.engine = FakeEngine()
        self.agents = Agents(lease_s=1000.0)
        given = {"name": "gpus", "max": 3, "idle_s": 60, "arguments": ["--ca", "ca.crt"]}
        self.pool = Pool(
            PoolSettings(**{**given, **settings}),
            self.engine,
            self.agents,
            server="lab:50051",
            owner=owner,
            join_token=a_token,
            clock=lambda: self.now,
        )

    async def adjust(self, num_waiting: int = 0, *busy: str) -> None:
        await self.pool.adjust([Wants(pool="gpus")] * num_waiting, busy)

    def attach(self, name: str) -> list[Any]:
        told: list[Any] = []
        self.engine.found[name] = Job(JobState.RUNNING)
        self.agents.attach(name, "gpus", Hello("1", (Slot("cpu:0", "cpu"),)), told.append)
        return told

    @property
    def asked(self) -> list[str]:
        return [name for name, _, _ in self.engine.submitted]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.agents.close()


async def test_a_run_that_waits_gets_an_agent_and_no_second_one(bench: Bench) -> None:
    await bench.adjust(1)
    await bench.adjust(1)
    ((name, command, environment),) = bench.engine.submitted
    assert command == [
        *("lab-agent", "join", "lab:50051", "--name", name, "--pool", "gpus"),
        *("--slots", "cpu:1", "--ephemeral", "--allow-uploads", "--ca", "ca.crt"),
    ]
    assert environment == {"LAB_JOIN_TOKEN": "lab_token"}
    assert bench.pool.news == "pool 'gpus' starts an agent"
    bench.engine.found[name] = Job(JobState.WAITING, "Slurm says Resources")
    await bench.adjust(1)
    assert bench.pool.news == "pool 'gpus' starts an agent (Slurm says Resources)"
    bench.attach(name)
    await bench.adjust(0, f"gpus/{name}/cpu:0")
    assert bench.pool.news == ""
    assert bench.asked == [name]


async def test_an_engine_that_is_away_is_the_reason_until_it_is_back(bench: Bench) -> None:
    bench.engine.problem = "Ray at http://head:8265 does not answer"
    for _ in range(20):
        await bench.adjust(1)
        bench.now += 1
    assert bench.pool.news == f"pool 'gpus' cannot start an agent: {bench.engine.problem}"
    bench.engine.problem = ""
    await bench.adjust(1)
    assert len(bench.asked) == 1
    assert bench.pool.news == "pool 'gpus' starts an agent"


async def test_an_engine_that_refuses_is_the_reason_and_is_tried_later_and_later(
    bench: Bench,
) -> None:
    bench.engine.refusal = "Ray at http://head:8265 refuses it: no such queue"
    tried_at = []
    for _ in range(100):
        before = len(bench.engine.tried)
        await bench.adjust(1)
        if len(bench.engine.tried) > before:
            tried_at.append(bench.now)
        bench.now += 1
    assert bench.pool.news == f"pool 'gpus' cannot start an agent: {bench.engine.refusal}"
    assert [b - a for a, b in pairwise(tried_at)] == [2, 4, 8, 16, 32]
    bench.engine.refusal = ""
    bench.now += 300
    await bench.adjust(1)
    assert bench.pool.news == "pool 'gpus' starts an agent"


async def test_a_job_whose_submission_had_no_answer_is_asked_for_by_the_same_name(
    bench: Bench,
) -> None:
    bench.engine.refusal = "no answer"
    await bench.adjust(1)
    bench.engine.refusal = ""
    bench.now += 300
    await bench.adjust(1)
    assert bench.asked == [bench.engine.tried[0]]
    bench.engine.refusal = "no answer"
    await bench.adjust(2)
    bench.engine.refusal = ""
    bench.engine.found[bench.engine.tried[-1]] = RUNNING  # it had arrived, late
    bench.now += 300
    await bench.adjust(2)
    assert len(bench.engine.tried) == 3
    await bench.adjust(3)
    assert len(set(bench.engine.tried)) == 3, "the next one is another job"


async def test_jobs_that_the_engine_forgot_are_started_again_but_not_those_of_living_agents(
    bench: Bench,
) -> None:
    await bench.adjust(2)
    lives, lost = bench.asked
    bench.attach(lives)
    bench.engine.found.clear()  # its head has started again, and knows nothing
    await bench.adjust(1, f"gpus/{lives}/cpu:0")
    bench.now += 29
    await bench.adjust(1, f"gpus/{lives}/cpu:0")
    assert bench.asked == [lives, lost], "it may still attach"
    bench.now += 2
    await bench.adjust(1, f"gpus/{lives}/cpu:0")
    assert f"its job {lost} was submitted, and the engine does not know it" in bench.pool.news
    bench.now += 2
    await bench.adjust(1, f"gpus/{lives}/cpu:0")
    assert len(bench.asked) == 3
    await bench.adjust(1, f"gpus/{lives}/cpu:0")
    assert len(bench.asked) == 3


async def test_a_job_that_ends_before_its_agent_joins_is_the_reason(bench: Bench) -> None:
    await bench.adjust(1)
    bench.engine.found[bench.asked[0]] = Job(JobState.ENDED, "lab-agent: not found", True)
    await bench.adjust(1)
    assert "lab-agent: not found" in bench.pool.news
    bench.now += 300
    await bench.adjust(1)
    assert len(set(bench.asked)) == 2


async def test_a_job_whose_agent_never_joins_is_the_reason(bench: Bench) -> None:
    await bench.adjust(1)
    bench.engine.found[bench.asked[0]] = Job(JobState.RUNNING)
    await bench.adjust(1)
    bench.now += 299
    await bench.adjust(1)
    assert "cannot start" not in bench.pool.news
    bench.now += 2
    await bench.adjust(1)
    assert "no agent has joined" in bench.pool.news
    assert bench.engine.found == {}, "it was cancelled"
    bench.now += 300
    await bench.adjust(1)
    assert len(bench.asked) == 2


async def test_a_job_has_its_time_to_join_from_when_it_runs(bench: Bench) -> None:
    await bench.adjust(1)
    bench.now += 100_000
    bench.engine.found[bench.asked[0]] = Job(JobState.RUNNING)
    await bench.adjust(1)
    assert "cannot start" not in bench.pool.news


async def test_a_job_without_an_agent_that_an_earlier_server_submitted_is_cancelled() -> None:
    bench = Bench(max=1)
    bench.engine.found = {
        "gpus-50e5-0a0a0a": Job(JobState.RUNNING),
        "gpus-big-50e5-0b0b0b": RUNNING,
    }
    await bench.adjust(1)
    assert bench.asked == []
    bench.now += 301
    await bench.adjust(1)
    assert [*bench.engine.found] == ["gpus-big-50e5-0b0b0b"], "which is another pool's"
    bench.now += 301
    await bench.adjust(1)
    assert len(bench.asked) == 1
    bench.agents.close()


async def test_servers_with_pools_of_one_name_on_one_cluster_leave_each_others_jobs_alone() -> None:
    first, second = Bench(max=1), Bench(owner="07e4", max=1)
    second.engine = first.engine
    second.pool._engine = first.engine
    for each in (first, second, first, second):
        await each.adjust(1)
    assert [name.rsplit("-", 1)[0] for name in first.engine.found] == ["gpus-50e5", "gpus-07e4"]
    theirs = first.asked[1]
    for name in first.asked:
        first.engine.found[name] = Job(JobState.RUNNING)
    await first.adjust()
    first.now += 301
    await first.adjust()
    assert [*first.engine.found] == [theirs], "its own hung job is cancelled, and no other"
    for each in (first, second):
        each.agents.close()


def test_servers_of_one_store_own_the_same_jobs_and_no_others() -> None:
    owner = owner_of(b"secret")
    assert owner == owner_of(b"secret") != owner_of(b"another")
    name = f"{'p' * 40}-{owner}-012345"
    assert NAME.fullmatch(name)


async def test_a_job_that_waits_in_the_engine_waits_for_as_long_as_it_takes(bench: Bench) -> None:
    await bench.adjust(1)
    bench.now += 100_000
    await bench.adjust(1)
    assert bench.asked == [*bench.engine.found]
    assert "cannot start" not in bench.pool.news


async def test_an_idle_agent_is_let_go_after_its_time_and_a_busy_one_is_not(bench: Bench) -> None:
    idle, busy = bench.attach("gpus-1"), bench.attach("gpus-2")
    for _ in range(3):
        await bench.adjust(0, "gpus/gpus-2/cpu:0")
        bench.now += 40
    assert Stop() in idle
    assert idle.count(Stop()) == 1
    assert Stop() not in busy
    agent = bench.agents.get("gpus-1")
    assert agent is not None
    assert "is stopping" in agent.obstacle(Wants())


@pytest.mark.parametrize(
    "said", [Job(JobState.ENDED, "its supervisor died", True), None], ids=["ended", "forgotten"]
)
async def test_what_the_engine_says_of_a_job_does_not_end_its_agent_before_the_lease(
    said: Job | None,
) -> None:
    bench = Bench(max=1)
    bench.attach("gpus-50e5-0a0a0a")
    agent = bench.agents.get("gpus-50e5-0a0a0a")
    assert agent is not None
    bench.agents.detach(agent)
    bench.engine.found = {} if said is None else {"gpus-50e5-0a0a0a": said}
    for _ in range(3):
        await bench.adjust(1, "gpus/gpus-0a0a0a/cpu:0")
        bench.now += 100
    assert bench.agents.get("gpus-50e5-0a0a0a") is agent
    assert bench.asked == [], "its place is taken, so none is started in it"
    bench.agents.close()


async def test_an_agent_above_max_gets_no_more_runs_and_goes_after_the_one_that_it_has() -> None:
    bench = Bench(max=1)
    told = {name: bench.attach(name) for name in ("gpus-0a0a0a", "gpus-0b0b0b")}
    slots = [f"gpus/{name}/cpu:0" for name in told]
    await bench.adjust(5, *slots)
    agents = [agent for agent in bench.agents if not agent.is_leaving]
    (kept,) = agents
    (surplus,) = set(told) - {kept.name}
    assert Stop() not in told[surplus], "its run goes on to its end"
    await bench.adjust(5, *slots)
    assert agents == [agent for agent in bench.agents if not agent.is_leaving], "and no other goes"
    await bench.adjust(5, f"gpus/{kept.name}/cpu:0")
    assert told[surplus].count(Stop()) == 1
    assert Stop() not in told[kept.name]
    assert bench.asked == []
    bench.agents.close()


async def test_never_fewer_than_min_are_left() -> None:
    bench = Bench(min=1)
    await bench.adjust()
    assert len(bench.asked) == 1
    told = bench.attach(bench.asked[0])
    for _ in range(3):
        await bench.adjust()
        bench.now += 100
    assert Stop() not in told
    bench.agents.close()


async def test_the_next_server_counts_the_jobs_that_the_last_one_submitted(bench: Bench) -> None:
    bench.engine.found["gpus-50e5-012345"] = Job(JobState.WAITING, "Slurm says Resources")
    bench.engine.found["other-50e5-012345"] = Job(JobState.RUNNING)
    bench.engine.found["gpus-big-50e5-012345"] = Job(JobState.RUNNING)
    await bench.adjust(1)
    assert bench.asked == []
    assert bench.pool.news == "pool 'gpus' starts an agent (Slurm says Resources)"
    await bench.adjust(2)
    assert len(bench.asked) == 1
    assert "starts 2 agents" in bench.pool.news


async def test_what_a_pool_cannot_take_is_left_for_another(bench: Bench) -> None:
    waiting = [Wants("cpu")] * 5
    assert await bench.pool.adjust(waiting, ()) == waiting[3:], "three agents at most"
    assert len(await bench.pool.adjust(waiting, ("gpus/gpus-1/cpu:0",))) == 3
    bench.engine.problem = "Ray does not answer"
    assert await bench.pool.adjust(waiting, ()) == waiting


def pools_of(*settings: PoolSettings, takes_uploads: bool = True) -> Pools:
    return Pools(
        settings,
        Agents(1.0),
        server="lab:1",
        owner="50e5",
        join_token=no_token,
        takes_uploads=takes_uploads,
    )


async def test_a_run_that_two_pools_can_serve_is_the_next_ones_where_the_first_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engines: dict[str, FakeEngine] = {"small": FakeEngine(), "large": FakeEngine()}
    monkeypatch.setattr(
        "lab_server.executors.pools.pools._engine_of", lambda settings: engines[settings.name]
    )
    pools = pools_of(PoolSettings(name="small"), PoolSettings(name="large", max=5))
    await pools.adjust([Wants("cpu")] * 3, ())
    assert [len(engine.submitted) for engine in engines.values()] == [1, 2]
    engines["small"].problem = "Ray does not answer"
    await pools.adjust([Wants("cpu")] * 3, ())
    assert len(engines["large"].submitted) == 3


def test_a_pool_may_have_what_its_agents_have() -> None:
    gpus = PoolSettings(name="gpus", slots="cuda:0", engine="slurm")
    empty = PoolSettings(name="empty", max=0)
    pools = pools_of(gpus, empty)
    assert pools.may_have(Wants("cuda"))
    assert pools.may_have(Wants(pool="gpus"))
    assert not pools.may_have(Wants("cpu"))
    assert not pools.may_have(Wants("cuda", "empty"))


@pytest.mark.parametrize(("server", "pool"), [(True, True), (True, False), (False, True)])
async def test_agents_of_a_pool_run_sent_code_if_the_server_and_the_pool_allow_it(
    monkeypatch: pytest.MonkeyPatch, server: bool, pool: bool
) -> None:
    engine = FakeEngine()
    monkeypatch.setattr("lab_server.executors.pools.pools._engine_of", lambda _settings: engine)
    settings = PoolSettings(name="gpus", allow_uploads=pool)
    pools = pools_of(settings, takes_uploads=server)
    sent = Wants(is_upload=True)
    assert pools.may_have(sent) == (server and pool)
    await pools.adjust([sent], ())
    await pools.adjust([Wants()], ())
    ((_, command, _),) = engine.submitted
    assert ("--allow-uploads" in command) == (server and pool)
