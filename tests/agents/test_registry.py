"""The agents that a server knows: out of reach is not dead, and what is over is over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lab_server.errors import InvalidState, LaunchError, PermissionDenied
from lab_server.executors.remote.agent import Agent
from lab_server.executors.remote.registry import Agents
from lab_server.files.run_folder import RunFolder
from lab_server.messages.agents import request_from_proto, request_to_proto
from lab_server.model.agent import (
    AttemptKey,
    Beat,
    Command,
    Ended,
    Hello,
    Kill,
    Launch,
    Launched,
    Leaving,
    Ping,
    Release,
    ToAgent,
    Welcome,
)
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import Begun, TrainerProcess
from lab_server.model.slot import Slot, Wants
from tests.descriptors import no_descriptors
from tests.runs.rig import becomes_true

KEY = AttemptKey("r1", 1)
PROCESS = TrainerProcess(4242, 1)
SLOT = "gpus/a1/cpu:0"


class Side:
    """An agent's side of the registry: what it was told."""

    def __init__(self, agents: Agents, name: str = "a1", *held: AttemptKey) -> None:
        self.told: list[ToAgent] = []
        hello = Hello("1", (Slot("cpu:0", "cpu"),), {"toy": "hash"}, held, takes_uploads=True)
        self.agent: Agent = agents.attach(name, "gpus", hello, self.told.append)
        self.agents = agents

    def say(self, *said: Any) -> None:
        for each in said:
            self.agents.receive(self.agent, each)


def spec_of(folder: Path, **changed: Any) -> LaunchSpec:
    texts: dict[str, Any] = dict.fromkeys(("name", "notes"), "")
    lists: dict[str, Any] = dict.fromkeys(("run_order", "models", "writers", "tags"), ())
    given = {"run_id": "r1", "attempt": 1, "experiment": "toy", "device": "cpu", "slot": SLOT}
    return LaunchSpec(
        folder=folder, overrides={}, num_threads=1, **(texts | lists | given | changed)
    )


@pytest.fixture
async def agents() -> Any:
    agents = Agents(lease_s=30.0)
    yield agents
    agents.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r1"


async def launched(agents: Agents, side: Side, folder: Path) -> TrainerProcess:
    """Have an attempt launched."""
    launching = asyncio.create_task(agents.launch(spec_of(folder)))
    await asyncio.sleep(0)
    side.say(Launched(KEY, PROCESS))
    return await launching


async def test_an_agents_slots_come_and_go_with_it(agents: Agents) -> None:
    changes: list[int] = []
    agents.observe(lambda: changes.append(len(list(agents))))
    side = Side(agents)
    assert [slot for agent in agents for slot in agent.slots] == [Slot(SLOT, "cpu", "gpus")]
    assert side.told == [Welcome(30.0, {})]
    side.say(Leaving())
    assert "is stopping" in side.agent.obstacle(Wants(experiment="toy"))
    agents.detach(side.agent)
    assert list(agents) == []
    assert changes == [1, 1, 0]


async def test_an_agent_that_attaches_while_it_stops_gets_no_runs(agents: Agents) -> None:
    hello = Hello("1", (Slot("cpu:0", "cpu"),), {"toy": "hash"}, is_leaving=True)
    assert request_from_proto(request_to_proto(hello)) == hello
    agent = agents.attach("a1", "gpus", hello, lambda _: None)
    assert "is stopping" in agent.obstacle(Wants(experiment="toy"))
    agents.detach(agent)
    assert list(agents) == []


async def test_a_trainer_is_launched_where_its_slot_is(agents: Agents, folder: Path) -> None:
    side, other = Side(agents), Side(agents, "a2")
    process = await launched(agents, side, folder)
    assert process == TrainerProcess(4242, 1, "a1")
    (launch,) = [said for said in side.told if isinstance(said, Launch)]
    assert (launch.key, launch.slot) == (KEY, "cpu:0")
    assert not any(isinstance(said, Launch) for said in other.told)


async def test_why_a_trainer_could_not_be_started_is_told(agents: Agents, folder: Path) -> None:
    side = Side(agents)
    launching = asyncio.create_task(agents.launch(spec_of(folder)))
    await asyncio.sleep(0)
    side.say(Launched(KEY, None, "there is no experiment 'toy'"))
    with pytest.raises(LaunchError, match="no experiment"):
        await launching


async def test_a_slot_of_an_agent_that_is_gone_launches_nothing(
    agents: Agents, folder: Path
) -> None:
    with pytest.raises(LaunchError, match="a1 is gone"):
        await agents.launch(spec_of(folder))


async def test_an_agent_that_is_cut_off_is_out_of_reach_and_its_attempt_goes_on(
    agents: Agents, folder: Path
) -> None:
    side = Side(agents)
    process = await launched(agents, side, folder)
    agents.detach(side.agent)
    (agent,) = agents
    assert "a1 is out of reach since" in agent.out_of_reach
    assert "a1 is out of reach since" in agent.obstacle(Wants(experiment="toy"))
    attempt = agents.find(process)
    assert attempt is not None
    assert not attempt.ended.done()
    assert not attempt.is_lost
    back = Side(agents, "a1", KEY)
    assert back.told == [Welcome(30.0, {KEY: 0})]
    assert back.agent.obstacle(Wants(experiment="toy")) == ""


async def test_only_when_its_lease_is_over_an_agent_is_given_up(folder: Path) -> None:
    agents = Agents(lease_s=0.05)
    side = Side(agents)
    process = await launched(agents, side, folder)
    agents.detach(side.agent)
    attempt = agents.find(process)
    assert attempt is not None
    assert "its lease of 0.05 s is over" in await attempt.until_ended()
    assert attempt.is_lost
    assert list(agents) == []
    with pytest.raises(InvalidState, match="is over"):
        agents.attempt("a1", KEY)
    agents.forget(KEY)
    assert Side(agents, "a1", KEY).told == [Welcome(0.05, {}), Release(KEY)]
    agents.close()


async def test_an_agent_that_is_attached_and_silent_is_given_up_too(folder: Path) -> None:
    agents = Agents(lease_s=0.05)
    side = Side(agents)
    ended: list[bool] = []
    side.agent.end = lambda: ended.append(True)
    attempt = agents.find(await launched(agents, side, folder))
    assert attempt is not None
    await attempt.until_ended()
    assert ended == [True]
    with pytest.raises(InvalidState, match="no longer attached"):
        side.say(Ping(1))


async def test_a_ping_is_answered_and_renews_the_lease(agents: Agents) -> None:
    side = Side(agents)
    side.say(Ping(7))
    assert side.told[-1] == Ping(7)


async def test_an_agent_that_comes_back_is_told_what_it_has_not_heard(
    agents: Agents, folder: Path
) -> None:
    side = Side(agents)
    agents.detach(side.agent)
    launching = asyncio.create_task(agents.launch(spec_of(folder)))
    await asyncio.sleep(0)
    back = Side(agents)
    assert [type(said) for said in back.told] == [Welcome, Launch]
    back.say(Launched(KEY, PROCESS))
    process = await launching
    killing = asyncio.create_task(agents.kill(process, 2.0))
    await asyncio.sleep(0)
    RunFolder(folder).send(1, "stop", checkpoint=True)
    third = Side(agents, "a1", KEY)
    assert [type(said) for said in third.told] == [Welcome, Kill, Command]
    third.say(Ended(KEY, "it was killed", 0))
    await killing


async def test_a_command_reaches_the_attempt_that_it_is_for(agents: Agents, folder: Path) -> None:
    side = Side(agents)
    await launched(agents, side, folder)
    RunFolder(folder).send(1, "stop", checkpoint=True)
    RunFolder(folder).send(2, "stop", checkpoint=False)
    agents.relay(KEY)
    (command,) = [said for said in side.told if isinstance(said, Command)]
    assert '"attempt": 1' in command.line


async def test_a_server_without_a_file_descriptor_takes_a_launch_down_later(
    agents: Agents, folder: Path
) -> None:
    side = Side(agents)
    launching = asyncio.create_task(agents.launch(spec_of(folder)))
    await asyncio.sleep(0)
    with no_descriptors():
        side.say(Launched(KEY, PROCESS))
        assert not launching.done()
    assert (await launching).pid == PROCESS.pid


async def test_a_server_without_a_file_descriptor_passes_a_command_on_later(
    agents: Agents, folder: Path
) -> None:
    side = Side(agents)
    await launched(agents, side, folder)
    RunFolder(folder).send(1, "stop")
    with no_descriptors():
        agents.relay(KEY)
        assert not any(isinstance(said, Command) for said in side.told)
    await becomes_true(lambda: any(isinstance(said, Command) for said in side.told))


async def test_an_attempt_has_ended_when_all_of_its_spool_is_here(
    agents: Agents, folder: Path
) -> None:
    side = Side(agents)
    attempt = agents.find(await launched(agents, side, folder))
    assert attempt is not None
    attempt.append(0, b"12345")
    side.say(Ended(KEY, "it exited", 10))
    assert not attempt.ended.done()
    attempt.append(5, b"67890")
    side.say(Ended(KEY, "it exited", 10))
    assert await attempt.until_ended() == "it exited"


async def test_an_attempt_that_its_agent_cannot_ship_all_of_is_lost(
    agents: Agents, folder: Path
) -> None:
    side = Side(agents)
    attempt = agents.find(await launched(agents, side, folder))
    assert attempt is not None
    told = Ended(KEY, "its agent failed: no room", 0, is_complete=False)
    assert request_from_proto(request_to_proto(told)) == told
    side.say(told)
    assert await attempt.until_ended() == "its agent failed: no room"
    assert attempt.is_lost


async def test_progress_on_an_agent_is_progress_here(agents: Agents, folder: Path) -> None:
    side = Side(agents)
    process = await launched(agents, side, folder)
    heartbeat = RunFolder(folder).heartbeat(1)
    side.say(Beat(KEY, False, 1.5, 100))
    assert not heartbeat.exists()
    side.say(Beat(KEY, True, 2.5, 200))
    assert heartbeat.exists()
    assert agents.usages()[process].cpu_seconds == 2.5


async def test_what_is_not_an_agents_own_is_not_heard(agents: Agents, folder: Path) -> None:
    side, other = Side(agents), Side(agents, "a2")
    attempt = agents.find(await launched(agents, side, folder))
    assert attempt is not None
    other.say(Ended(KEY, "a lie", 0))
    assert not attempt.ended.done()
    assert other.told[-1] == Release(KEY)
    with pytest.raises(PermissionDenied, match="not one of agent a2"):
        agents.attempt("a2", KEY)
    assert agents.attempt("a1", KEY) is attempt


async def test_an_attempt_that_its_agent_has_lost_has_ended(agents: Agents, folder: Path) -> None:
    side = Side(agents)
    attempt = agents.find(await launched(agents, side, folder))
    assert attempt is not None
    Side(agents)  # the same agent, with an empty home
    assert await attempt.until_ended() == "agent a1 has lost it"


async def test_an_attempt_that_is_forgotten_is_released(agents: Agents, folder: Path) -> None:
    side = Side(agents)
    process = await launched(agents, side, folder)
    agents.forget(KEY)
    assert side.told[-1] == Release(KEY)
    assert agents.find(process) is None
    with pytest.raises(InvalidState, match="is over"):
        agents.attempt("a1", KEY)


async def test_an_agent_that_attaches_twice_is_heard_by_its_last_stream_only(
    agents: Agents,
) -> None:
    first = Side(agents)
    ended: list[bool] = []
    first.agent.end = lambda: ended.append(True)
    second = Side(agents)
    assert ended == [True]
    with pytest.raises(InvalidState, match="no longer attached"):
        first.say(Ping(1))
    agents.detach(first.agent)
    assert second.agent.obstacle(Wants(experiment="toy")) == ""


async def test_the_next_server_finds_the_trainer_and_waits_for_its_agent(
    agents: Agents, folder: Path
) -> None:
    await launched(agents, Side(agents), folder)
    nxt = Agents(lease_s=30.0)
    process = nxt.adopt(folder, 1, Begun(SLOT))
    assert process == TrainerProcess(4242, 1, "a1")
    (agent,) = nxt
    assert agent.slots == ()
    assert Side(nxt, "a1", KEY).told == [Welcome(30.0, {KEY: 0})]
    nxt.close()


async def test_a_server_with_another_home_goes_on_where_the_store_is(tmp_path: Path) -> None:
    nxt = Agents(lease_s=30.0, home="another")
    trainer = TrainerProcess(4242, 1, "a1")
    folder = tmp_path / "another" / KEY.run_id
    assert nxt.adopt(folder, 1, Begun(SLOT, trainer, spool_offset=100)) == trainer
    side = Side(nxt, "a1", KEY)
    assert side.told == [Welcome(30.0, {KEY: 100}, "another")]
    attempt = nxt.attempt("a1", KEY)
    assert attempt.append(90, bytes(10) + b"new") == 103
    assert attempt.folder.spool(1).read_bytes()[100:] == b"new"
    nxt.close()


async def test_the_next_server_gives_up_an_agent_that_does_not_come(
    agents: Agents, folder: Path
) -> None:
    await launched(agents, Side(agents), folder)
    nxt = Agents(lease_s=0.05)
    process = nxt.adopt(folder, 1, Begun(SLOT))
    assert process is not None
    attempt = nxt.find(process)
    assert attempt is not None
    assert "lease" in await attempt.until_ended()


@pytest.mark.parametrize(
    ("wants", "obstacle"),
    [
        (Wants(experiment="toy", code_digest="hash"), ""),
        (Wants(experiment="toy"), ""),
        (Wants(experiment="toy", code_digest="other"), "agent a1 has another version of"),
        (Wants(experiment="mnist"), "agent a1 has no experiment 'mnist'"),
    ],
)
async def test_a_run_is_placed_where_its_code_is(
    agents: Agents, wants: Wants, obstacle: str
) -> None:
    assert obstacle in Side(agents).agent.obstacle(wants)
    assert bool(obstacle) == bool(Side(agents).agent.obstacle(wants))
