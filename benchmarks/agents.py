"""What a run on an agent costs, and how much of agents one server takes.

    python benchmarks/agents.py [--rounds N] [--agents 20] [--events 2000]

`start()` to the first metric in the client, in a slot of the server's own and on a warm agent on the same machine, in
turns. Events a second from agents that are simulated: each has one run, whose events it ships as fast as the server takes
them, 50 at once; all are in the store, each once, when the clock stops.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from live_agent import LiveAgent
from live_server import LiveServer
from stores import Column
from table import Row, at_most, markdown

from lab_client import Client, Run, RunOptions
from lab_client.events import Metrics

EXPERIMENT = Path(__file__).with_name("idle_experiment.py")
NAME = EXPERIMENT.stem
EVENTS_AT_ONCE = 50
PING_S = 2.0
ON_AGENT = RunOptions(pool="agents")


def to_first_metric(rounds: int) -> list[Row]:
    """Take turns: a run in a slot of the server, and one on an agent."""
    took: dict[str, list[float]] = {"": [], "agents": []}
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as name,
        LiveServer(Path(name, "server"), "--slots", "cpu:1") as server,
        Client(server.address) as client,
    ):
        agent = LiveAgent(Path(name, "a1"), server.address)
        agent.start()
        client.wait_ready()
        for index in range(rounds + 1):
            for pool, times in took.items():
                config = {"epochs": 1, "is_log_parameters": False}
                run = client.create("mnist", config, options=RunOptions(pool=pool))
                began = time.perf_counter()
                run.start(until_step=20)
                next(iter(run.metrics()))
                if index:  # what is read from the disk for the first time is not of interest
                    times.append(time.perf_counter() - began)
                run.wait()
        agent.stop()
    here, there = (statistics.median(times) for times in took.values())
    peer = f"in the server's own slot, {here:.3f} s"
    return [at_most("start() to the first metric on an agent", there, 0.3, "s", peer)]


def a_spool(num_events: int) -> list[bytes]:
    """Return the records of a run's whole spool: events of 2 metrics and 2 steps."""
    from lab_server.files.spool import encode_record
    from lab_server.messages import events
    from lab_server.model.run import RunState

    payloads = [events.encode_state(1, time.time_ns(), RunState.RUNNING).payload]
    for first in range(1, 2 * num_events, 2):
        steps = [first, first + 1]
        columns = [Column(f"metric_{i}", steps, [0.001 * step for step in steps]) for i in range(2)]
        payloads += [e.payload for e in events.encode_metrics(1, time.time_ns(), columns)]
    payloads.append(events.encode_state(1, time.time_ns(), RunState.COMPLETED).payload)
    return [encode_record(payload) for payload in payloads]


async def digest_of(experiment: str) -> str:
    """Return the digest of an experiment's code, as an agent tells it."""
    from lab_server.agent.agent import digests
    from lab_server.executors.local import LocalExecutor

    executor = LocalExecutor([], experiments=(str(EXPERIMENT),), auto_reload=False)
    try:
        return (await digests(executor))[experiment]
    finally:
        await executor.close()


async def simulate(address: str, name: str, digest: str, records: list[bytes]) -> None:
    """Join as an agent, and ship the events of each run that it is given."""
    import lab_server
    from lab_rpc.v1 import agent_service_pb2 as pb
    from lab_server.agent.link import open_channel, stub_of
    from lab_server.messages.agents import key_to_proto, request_to_proto, response_from_proto
    from lab_server.model.agent import Ended, FromAgent, Hello, Launch, Launched, Ping
    from lab_server.model.run import TrainerProcess
    from lab_server.model.slot import Slot
    from lab_server.security.tokens import written

    outgoing: asyncio.Queue[FromAgent] = asyncio.Queue()
    slots = (Slot("cpu:0", "cpu"),)
    outgoing.put_nowait(Hello(lab_server.__version__, slots, {NAME: digest}))

    async def requests() -> AsyncIterator[pb.AttachRequest]:
        for number in itertools.count():
            try:
                told = await asyncio.wait_for(outgoing.get(), PING_S)
            except TimeoutError:
                told = Ping(number)
            yield request_to_proto(told)

    async with open_channel(address, None) as channel:
        stub = stub_of(channel)
        secret = hashlib.sha256(name.encode()).hexdigest()
        asked = pb.JoinRequest(version=lab_server.__version__, name=name, secret_sha256=secret)
        joined = await stub.Join(asked)
        me = (("authorization", f"Bearer {written(joined.credential_id, name)}"),)
        async for message in stub.Attach(requests(), metadata=me):
            match response_from_proto(message):
                case Launch(key=key):
                    outgoing.put_nowait(Launched(key, TrainerProcess(1, 1)))
                    offset = 0
                    for first in range(0, len(records), EVENTS_AT_ONCE):
                        data = b"".join(records[first : first + EVENTS_AT_ONCE])
                        sent = pb.AppendEventsRequest(
                            key=key_to_proto(key), offset=offset, data=data
                        )
                        offset = (await stub.AppendEvents(sent, metadata=me)).offset
                    outgoing.put_nowait(Ended(key, "", offset))


def events_of_many(num_agents: int, num_events: int) -> Row:
    """Return the events a second that one server takes."""
    digest = asyncio.run(digest_of(NAME))
    records = a_spool(num_events)
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as name,
        LiveServer(Path(name), "--slots", "none", "--experiments", str(EXPERIMENT)) as server,
        Client(server.address, timeout_s=120) as client,
    ):
        client.wait_ready()

        async def all_agents() -> tuple[list[Run], float]:
            agents = [
                asyncio.create_task(simulate(server.address, f"a{number}", digest, records))
                for number in range(num_agents)
            ]
            while len((await asyncio.to_thread(client.server_info)).slots) < num_agents:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            runs = [
                await asyncio.to_thread(client.create, NAME, {}, options=ON_AGENT) for _ in agents
            ]
            began = time.perf_counter()
            await asyncio.gather(*(asyncio.to_thread(run.start) for run in runs))
            await asyncio.gather(*(asyncio.to_thread(run.wait, check=True) for run in runs))
            seconds = time.perf_counter() - began
            for agent in agents:
                agent.cancel()
            await asyncio.gather(*agents, return_exceptions=True)
            return runs, seconds

        runs, seconds = asyncio.run(all_agents())
        total = 0
        for run in runs:
            found = list(run.events())
            assert [event.seq for event in found] == list(range(1, len(found) + 1))
            steps = [s for e in found if isinstance(e.body, Metrics) for s in e.body.steps]
            assert steps == list(range(1, 2 * num_events + 1)), "a step is lost or doubled"
            total += len(found)
    return Row(
        f"events of {num_agents} agents with a run each, to the store",
        f"{total / seconds:,.0f} events/s",
        "2 metrics, 2 steps an event",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--events", type=int, default=2000)
    arguments = parser.parse_args()
    many = events_of_many(arguments.agents, arguments.events)
    print(markdown([*to_first_metric(arguments.rounds), many]))
